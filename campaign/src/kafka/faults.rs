//! The faults, and how they are drawn.

use super::drive::Broker;
use crate::Dice;
use crate::fleet::Harm;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A relay comes to harm: mostly the one that publishes.
    Relay(Harm),
    /// A projector does that reads the topic.
    Projector(Harm),
    /// What is in the topic is removed before the projectors, which sleep, have read it.
    Expire,
    /// Every connection to the broker is cut.
    Cut,
    /// The broker is killed, or stopped in an orderly way, and started again.
    EndBroker,
}

impl Fault {
    /// What to call it in a summary.
    pub(super) fn name(self) -> String {
        match self {
            Self::Relay(harm) => format!("relay {}", harm.name()),
            Self::Projector(harm) => format!("projector {}", harm.name()),
            Self::Expire => "messages removed under sleeping projectors".to_owned(),
            Self::Cut => "connections cut".to_owned(),
            Self::EndBroker => "broker ended".to_owned(),
        }
    }
}

/// All that can go wrong, each as often as it is in here. Once in a while the broker ends: it takes its time to come back.
const DECK: &[Fault] = &[
    Fault::Relay(Harm::Kill),
    Fault::Relay(Harm::Kill),
    Fault::Relay(Harm::Freeze),
    Fault::Relay(Harm::FreezePastLease),
    Fault::Relay(Harm::FreezePastLease),
    Fault::Projector(Harm::Kill),
    Fault::Projector(Harm::Freeze),
    Fault::Projector(Harm::FreezePastLease),
    Fault::Expire,
    Fault::Cut,
    Fault::Cut,
    Fault::EndBroker,
];

/// The faults of a campaign, drawn like cards that are shuffled again when there are no more: so each of them comes in turn.
pub(super) struct Deck {
    all: Vec<Fault>,
    left: Vec<Fault>,
    dice: Dice,
}

impl Deck {
    /// With all that can be done to this broker.
    pub(super) fn new(broker: &Broker, dice: Dice) -> Self {
        let is_possible = |fault: &Fault| match fault {
            Fault::Cut => broker.detour.is_some(),
            Fault::EndBroker => broker.process.is_some(),
            Fault::Relay(_) | Fault::Projector(_) | Fault::Expire => true,
        };
        let all = DECK.iter().copied().filter(is_possible).collect();
        Self { all, left: Vec::new(), dice }
    }
}

impl Iterator for Deck {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            self.dice.shuffle(&mut self.left);
        }
        self.left.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_comes_in_turn() {
        let broker = Broker { address: String::new(), detour: None, process: None };
        let drawn: Vec<_> = Deck::new(&broker, Dice::new(1)).take(18).collect();
        let possible = |fault: &&Fault| !matches!(fault, Fault::Cut | Fault::EndBroker);
        for fault in DECK.iter().filter(possible) {
            let count = |faults: &[Fault]| faults.iter().filter(|one| *one == fault).count();
            assert_eq!([count(&drawn[..9]), count(&drawn[9..])], [count(DECK); 2], "{fault:?}");
        }
        assert_ne!(drawn[..9], drawn[9..], "in another order");
    }
}
