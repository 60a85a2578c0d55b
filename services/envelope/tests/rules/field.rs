//! Each type of field by itself: which values fit, and what makes no field.

use chrono::{DateTime, Utc};
use countersign_envelope::domain::field::{Field, FieldType, Rules, Value, decimal};
use countersign_envelope::domain::id::FieldId;
use countersign_envelope::domain::limits::{OPTION_CHARS_MAX, OPTIONS_MAX, PATTERN_CHARS_MAX, TEXT_CHARS_MAX};
use countersign_envelope::domain::personal::Personal;
use countersign_envelope::domain::recipient::Role;

use crate::shape::{field, person, rcp, start, uuid};

/// A field of that type that has no defect.
pub fn sound(kind: FieldType) -> Field {
    let mut field = field(FieldId::from_uuid(uuid(700 + kind as u128)), kind, rcp(0));
    match kind {
        FieldType::Radio => field.rules.group = "colour".into(),
        FieldType::Dropdown => field.rules.options = vec!["red".into(), "green".into()],
        _ => {}
    }
    field
}

pub fn text(text: &str) -> Value {
    Value::Text(Personal::new(text))
}

fn ruled(kind: FieldType, change: impl FnOnce(&mut Rules)) -> Field {
    let mut field = sound(kind);
    change(&mut field.rules);
    field
}

fn fits(field: &Field, given: &str) -> bool {
    field.fits(&text(given)).is_ok()
}

#[test]
fn s3_21_each_type_takes_what_it_is_for() {
    for kind in FieldType::ALL {
        let field = sound(kind);
        assert_eq!(field.defects(), [], "{kind:?}");
        let ticks = matches!(kind, FieldType::Checkbox | FieldType::Radio);
        for checked in [true, false] {
            let expected = ticks.then_some(Some(Value::Checked(checked)));
            assert_eq!(field.fits(&Value::Checked(checked)).ok(), expected, "{kind:?}");
        }
        let of_text = !ticks && !kind.is_automatic();
        assert_eq!(field.fits(&text(" \t ")).ok(), of_text.then_some(None), "{kind:?}: blank is empty");
        let good = match kind {
            FieldType::Number => "-12.50",
            FieldType::Dropdown => "green",
            _ => "words",
        };
        let padded = format!("  {good} ");
        assert_eq!(field.fits(&text(&padded)).ok(), of_text.then(|| Some(text(good))), "{kind:?}");
        assert!(!fits(&field, "a\u{0}b") && !fits(&field, "a\nb"), "{kind:?}: control characters");
        assert!(!fits(&field, &"é".repeat(TEXT_CHARS_MAX + 1)), "{kind:?}: too long");
    }
    assert!(fits(&sound(FieldType::Text), &"é".repeat(TEXT_CHARS_MAX)));
}

#[test]
fn s3_21_what_nobody_puts_in() {
    let somebody = person("Ada King Lovelace", "ada@example.com");
    let late: DateTime<Utc> = "2027-12-31T23:59:59Z".parse().unwrap();
    for (kind, at, expected) in [
        (FieldType::Signature, start(), Some(text("Ada King Lovelace"))),
        (FieldType::Initials, start(), Some(text("AKL"))),
        (FieldType::Name, start(), Some(text("Ada King Lovelace"))),
        (FieldType::Email, start(), Some(text("ada@example.com"))),
        (FieldType::Date, start(), Some(text("2027-01-15"))),
        (FieldType::Date, late, Some(text("2027-12-31"))),
        (FieldType::Text, start(), None),
        (FieldType::Number, start(), None),
        (FieldType::Dropdown, start(), None),
        (FieldType::Checkbox, start(), Some(Value::Checked(false))),
        (FieldType::Radio, start(), Some(Value::Checked(false))),
    ] {
        assert_eq!(sound(kind).unasked(&somebody, at), expected, "{kind:?}");
    }
}

#[test]
fn s3_21_numbers_are_decimals_within_bounds() {
    for (given, number) in [
        ("0", true),
        ("-12.50", true),
        ("+7", true),
        ("007", true),
        ("12,50", false),
        ("1e3", false),
        ("1_000", false),
        ("0x10", false),
        ("NaN", false),
        ("١٢", false),
        ("-", false),
        (".", false),
        ("1.2.3", false),
        ("--1", false),
        ("1-1", false),
        ("1 000", false),
        ("99999999999999999999999999999999", false),
    ] {
        assert_eq!(decimal(given).is_some(), number, "{given}");
        assert_eq!(fits(&sound(FieldType::Number), given), number, "{given}");
    }
    let bounded = ruled(FieldType::Number, |rules| (rules.min, rules.max) = (decimal("-1.5"), decimal("10")));
    for (given, inside) in [("-1.5", true), ("-1.50", true), ("-1.51", false), ("10.0", true), ("10.01", false)] {
        assert_eq!(fits(&bounded, given), inside, "{given}");
    }
}

#[test]
fn s3_21_text_has_length_and_form() {
    let short = ruled(FieldType::Text, |rules| (rules.min_length, rules.max_length) = (Some(2), Some(3)));
    for (given, taken) in [("é", false), (" é ", false), ("éé", true), ("ééé", true), ("éééé", false), ("", true)]
    {
        assert_eq!(fits(&short, given), taken, "{given}: characters count, not bytes");
    }
    let form = ruled(FieldType::Text, |rules| rules.pattern = Some("[A-Z]{2}|[0-9]+".into()));
    for (given, taken) in [("AB", true), ("12345", true), ("AB1", false), ("xAB", false), ("ABx", false), ("", true)] {
        assert_eq!(fits(&form, given), taken, "{given}: the whole has that form");
    }
    let escaping = ruled(FieldType::Text, |rules| rules.pattern = Some("a)|(b".into()));
    assert_eq!(escaping.defects().len(), 1, "what would escape the whole is refused before it is kept");
}

#[test]
fn s3_21_a_list_is_chosen_from() {
    let list = sound(FieldType::Dropdown);
    for (given, taken) in [("red", true), (" red ", true), ("Red", false), ("blue", false), ("redgreen", false)] {
        assert_eq!(fits(&list, given), taken, "{given}");
    }
}

#[test]
fn s3_14_only_signers_sign() {
    for kind in FieldType::ALL {
        let mark = matches!(kind, FieldType::Signature | FieldType::Initials);
        assert_eq!(kind.is_mark(), mark);
        for (role, may) in [
            (Role::Signer, true),
            (Role::Approver, !mark),
            (Role::Viewer, false),
            (Role::Cc, false),
            (Role::Assistant, false),
        ] {
            assert_eq!(role.may_have(kind), may, "{role:?} {kind:?}");
        }
    }
}

/// A rule that is for one type only, the type, and the part that is wrong on every other.
type OfOne = (fn(&mut Rules), FieldType, &'static str);

#[test]
fn s3_21_rules_are_for_their_type_only() {
    let rules: [OfOne; 7] = [
        (|it| it.pattern = Some("a".into()), FieldType::Text, "validation.pattern"),
        (|it| it.min_length = Some(1), FieldType::Text, "validation.min_length"),
        (|it| it.max_length = Some(1), FieldType::Text, "validation.max_length"),
        (|it| it.min = decimal("1"), FieldType::Number, "validation.min"),
        (|it| it.max = decimal("1"), FieldType::Number, "validation.max"),
        (|it| it.options = vec!["a".into()], FieldType::Dropdown, "validation.options"),
        (|it| it.group = "a".into(), FieldType::Radio, "validation.group"),
    ];
    for (rule, only, part) in rules {
        for kind in FieldType::ALL {
            let parts: Vec<_> = ruled(kind, rule).defects().into_iter().map(|(part, _)| part).collect();
            assert_eq!(parts, if kind == only { vec![] } else { vec![part] }, "{kind:?}");
        }
    }
}

/// A type, what is wrong with it, and in which part.
type Defect = (FieldType, fn(&mut Field), &'static str);

#[test]
fn s3_21_a_field_that_cannot_be_is_refused() {
    let (textual, listed) = (FieldType::Text, FieldType::Dropdown);
    let cases: [Defect; 27] = [
        (textual, |it| it.rules.pattern = Some("a".repeat(PATTERN_CHARS_MAX + 1)), "validation.pattern"),
        (textual, |it| it.rules.pattern = Some("(".into()), "validation.pattern"),
        (textual, |it| it.rules.pattern = Some("a)|(b".into()), "validation.pattern"),
        (textual, |it| it.rules.pattern = Some("(?x)a #".into()), "validation.pattern"),
        (textual, |it| it.rules.pattern = Some(r"(a)\1".into()), "validation.pattern"),
        (textual, |it| it.rules.pattern = Some("((a{99}){99}){99}".into()), "validation.pattern"),
        (textual, |it| (it.rules.min_length, it.rules.max_length) = (Some(3), Some(2)), "validation.min_length"),
        (textual, |it| it.rules.max_length = Some(0), "validation.max_length"),
        (textual, |it| it.rules.max_length = Some(501), "validation.max_length"),
        (textual, |it| it.value = Some(Value::Checked(true)), "value"),
        (textual, |it| it.value = Some(text("a\u{7}")), "value"),
        (FieldType::Number, |it| (it.rules.min, it.rules.max) = (decimal("2"), decimal("1")), "validation.min"),
        (FieldType::Number, |it| it.value = Some(text("one")), "value"),
        (FieldType::Radio, |it| it.rules.group.clear(), "validation.group"),
        (FieldType::Radio, |it| it.value = Some(text("x")), "value"),
        (listed, |it| it.rules.options.clear(), "validation.options"),
        (listed, |it| it.rules.options = (0..=OPTIONS_MAX).map(|it| it.to_string()).collect(), "validation.options"),
        (listed, |it| it.rules.options.push("red".into()), "validation.options"),
        (listed, |it| it.rules.options.push(String::new()), "validation.options"),
        (listed, |it| it.rules.options.push(" blue".into()), "validation.options"),
        (listed, |it| it.rules.options.push("a\tb".into()), "validation.options"),
        (listed, |it| it.rules.options.push("é".repeat(OPTION_CHARS_MAX + 1)), "validation.options"),
        (listed, |it| it.value = Some(text("blue")), "value"),
        (FieldType::Signature, |it| it.value = Some(text("Ada")), "value"),
        (FieldType::Initials, |it| it.read_only = true, "read_only"),
        (FieldType::Email, |it| it.read_only = true, "read_only"),
        (FieldType::Date, |it| it.value = Some(text("2027-01-15")), "value"),
    ];
    for (kind, spoil, part) in cases {
        let mut field = sound(kind);
        spoil(&mut field);
        let parts: Vec<_> = field.defects().into_iter().map(|(part, _)| part).collect();
        assert_eq!(parts, [part], "{kind:?} {:?}", field.rules);
    }
    let mut all = sound(FieldType::Signature);
    all.rules = Rules { pattern: Some("(".into()), group: "a".into(), ..Rules::default() };
    (all.read_only, all.value) = (true, Some(text("Ada")));
    assert_eq!(all.defects().len(), 5, "all is told at once");
}

/// A field that no value fits could never be filled, and its envelope never be signed.
#[test]
fn s3_21_a_text_that_has_to_be_too_long_is_a_defect() {
    let field = ruled(FieldType::Text, |rules| rules.min_length = Some(501));
    assert!(!fits(&field, &"x".repeat(500)) && !fits(&field, &"x".repeat(501)));
    assert_ne!(field.defects(), []);
}
