#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// What `scontrol show hostnames LIST` wrote; nothing after the arrow where it refused the list.
const EXPANDED: &str = include_str!("../../tests/recorded/hostnames.txt");
/// What `scontrol show hostlist HOSTS` wrote.
const COMPRESSED: &str = include_str!("../../tests/recorded/hostlist.txt");

fn recordings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().map(|line| line.split_once(" => ").unwrap())
}

#[test]
fn expands_what_slurm_expands_and_refuses_what_it_refuses() {
    for (list, hosts) in recordings(EXPANDED) {
        match expand(list) {
            Ok(expanded) => assert_eq!(expanded.join(" "), hosts, "{list}"),
            Err(error) => assert_eq!(hosts, "refused", "{list}: {error}"),
        }
    }
}

#[test]
fn compresses_as_slurm_does() {
    for (hosts, list) in recordings(COMPRESSED) {
        let hosts: Vec<_> = hosts.split(',').collect();
        assert_eq!(compress(&hosts), list);
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    let refusal = |list: &str| expand(list).unwrap_err().to_string();
    assert_eq!(refusal("n[1-2]-ib"), r#"host list "n[1-2]-ib": "-ib" follows a bracket"#);
    assert_eq!(refusal("n[3-1]"), r#"host list "n[3-1]": "3-1" is not a range of numbers"#);
    assert_eq!(refusal("n[1-"), r#"host list "n[1-": a bracket that is not closed"#);
    assert_eq!(refusal("n[1-65537]"), r#"host list "n[1-65537]": more than 65536 hosts"#);
    assert_eq!(
        refusal("a[1-300]b[1-300]"),
        r#"host list "a[1-300]b[1-300]": more than 65536 hosts"#
    );
    assert!(refusal("n[0-999999999999999999]").contains("more than 65536"));
    assert!(refusal("n[9999999999999999999]").contains("is not a range"));
    assert!(refusal(&"n".repeat(300)).ends_with("a name of more than 255 bytes"));
    assert!(refusal("a\u{7}b").contains("the character"));
}

#[test]
fn all_of_a_list_count_against_the_limit() {
    assert_eq!(expand("n[1-65536]").unwrap().len(), MAX_HOSTS);
    assert!(expand("n[1-65536],m1").is_err());
    let lists = ["n[1-40000]", "m[1-40000]"].join(",");
    assert!(expand(&lists).is_err());
}

proptest! {
    #[test]
    fn compressing_loses_nothing(
        hosts in prop::collection::vec("[a-z][a-z0-9-]{0,3}[0-9]{0,21}", 0..40)
    ) {
        prop_assert_eq!(expand(&compress(&hosts)).unwrap(), hosts);
    }

    #[test]
    fn runs_of_numbers_come_back(start in 0_u32..2000, len in 1_u32..300, width in 0_usize..5) {
        let hosts: Vec<_> = (start..start + len).map(|n| format!("n{n:0width$}")).collect();
        let list = compress(&hosts);
        prop_assert!(list.len() < 40, "{list}");
        prop_assert_eq!(expand(&list).unwrap(), hosts);
    }

    #[test]
    fn no_list_is_too_odd_to_be_answered(list in "[n0-9\\[\\],\\- \n]{0,40}") {
        if let Ok(hosts) = expand(&list) {
            prop_assert!(hosts.len() <= MAX_HOSTS);
        }
    }
}
