//! The reader that follows the log all the time.

use std::time::Duration;

use daybook_campaign::check::Breach;
use daybook_campaign::reader::Reader;
use daybook_core::Event;
use daybook_database::Schema;
use daybook_database::testing::{Backend, run};
use daybook_log::{Log, Settings};
use tokio::time::timeout;

use crate::store::{commit, one};

#[tokio::test]
async fn an_event_that_cannot_be_read_is_found_and_passed() {
    run(Backend::Sqlite, &[Schema::Log], async |_, database| {
        let log = Log::open(database, Settings::default()).await.expect("the log opens");
        let mut damaged = one();
        damaged.events[0].event_type = daybook_campaign::domain::Changed::TYPE.into();
        for append in [one(), damaged, one()] {
            commit(&log, append).await;
        }
        let reading = Reader::start(log.clone()).finish();
        let mut read = timeout(Duration::from_secs(10), reading).await.expect("it ends").expect("it has read");
        read.compare(&log).await.expect("it is there to be read again");
        let breaches: Vec<_> = read.violations.iter().map(|violation| violation.breach).collect();
        assert_eq!((breaches, read.log.len()), (vec![Breach::Changed], 3));
    })
    .await;
}
