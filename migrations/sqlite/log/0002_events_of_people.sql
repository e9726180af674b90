-- The events that say who somebody is and what they are trusted with. Every process looks for the newest of them when
-- it starts, and must not have to go through all others for that, nor through all that there ever were.
--
-- Their queries repeat this condition word for word. Few events are in the index: behind each one stands a password
-- that was hashed, or somebody who was forgotten.
CREATE INDEX events_of_people ON events (position)
WHERE stream >= 'account-' AND stream < 'account.'
   OR stream >= 'daybook.subject-' AND stream < 'daybook.subject.'
   OR stream >= 'session-' AND stream < 'session.';
