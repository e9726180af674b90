//! Drawing what to do next: mostly on a few things that everybody wants.

use super::Act;
use crate::Dice;

/// Names are numbers from 1 to this.
pub const NAMES: u64 = 40;

/// Draws an act.
pub fn draw(dice: &mut Dice) -> Act {
    match dice.below(12) {
        0..=2 => Act::Add { counter: any(dice, 2, 200), odd: dice.one_in(2) },
        3 | 4 => {
            let from = any(dice, 3, 50);
            let to = any(dice, 3, 50);
            Act::Transfer { from, to: if to == from { from + 1 } else { to }, amount: 1 + dice.below(15) as i64 }
        }
        5 => Act::Leave { pair: any(dice, 2, 20), second: dice.one_in(2) },
        6 => Act::Return { pair: any(dice, 2, 20), second: dice.one_in(2) },
        7 => Act::Take { holder: dice.below(40), name: 1 + any(dice, 4, NAMES) },
        8 => Act::Drop { holder: dice.below(40) },
        9 => Act::Point { pointer: dice.below(2), counter: any(dice, 2, 20) },
        10 => Act::Follow { pointer: dice.below(2) },
        _ => Act::Put { register: any(dice, 2, 50), value: dice.below(3) as i64 },
    }
}

/// One of many; every second time, one of the few that are hot.
fn any(dice: &mut Dice, hot: u64, all: u64) -> u64 {
    let limit = if dice.one_in(2) { hot } else { all };
    dice.below(limit)
}
