-- When somebody was forgotten last, found without looking at everybody who was not.
CREATE INDEX subjects_forgotten ON subject_keys (forgotten_at_ms) WHERE forgotten_at_ms IS NOT NULL;
