use super::*;

fn stages(stages: &[&str]) -> Vec<String> {
    stages.iter().map(|stage| (*stage).to_owned()).collect()
}

#[test]
fn stages_decide_what_resolves() {
    for (found, expected, resolved) in [
        (&["AWSCURRENT"][..], "current", true),
        (&["AWSCURRENT", "AWSPENDING"], "current", true),
        (&["AWSPREVIOUS"], "enabled", true),
        (&["AWSPREVIOUS", "AWSPENDING"], "enabled", true),
        (&["daypass-kept-1"], "enabled", true),
        (&["AWSPENDING"], "pending", false),
        (&[], "deprecated", false),
    ] {
        assert_eq!(state(&stages(found)), expected, "{found:?}");
        assert_eq!(resolves("1", &stages(found)).is_ok(), resolved, "{found:?}");
    }
}

#[test]
fn versions_are_ids_and_nothing_else() {
    assert!(is_version("11111111-2222-4333-8444-555555555555"));
    for wrong in ["", "1", "AWSPREVIOUS", "11111111-2222-4333-8444-55555555555/", &"a".repeat(65)] {
        assert!(!is_version(wrong), "{wrong}");
    }
}

#[test]
fn a_value_is_text_where_it_is_text() {
    assert!(matches!(stored(&SecretValue::new(b"text".to_vec())), (Some(text), None) if text == "text"));
    assert!(matches!(stored(&SecretValue::new(vec![0, 255])), (None, Some(_))));
    assert!(value(None, None).is_err());
    assert_eq!(value(None, Some(primitives::Blob::new([0, 255]))).unwrap().expose(), [0, 255]);
}
