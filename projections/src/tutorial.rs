//! The code of `docs/write-a-projection.md` is that of `days.rs`, which is compiled and tested here and is part of no
//! program.

#[test]
fn the_page_shows_the_code_that_is_tested() {
    let page = include_str!("../../docs/write-a-projection.md");
    let blocks = page.split("\n```rust\n").skip(1).filter_map(|rest| rest.split_once("```\n"));
    let code: Vec<&str> = blocks.map(|(code, _)| code).collect();
    assert_eq!(code.join("\n"), include_str!("days.rs"));
}
