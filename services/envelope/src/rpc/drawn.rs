//! Drawn signatures: read with all that is wrong at once, and shown again to whoever drew them.

use std::collections::{BTreeMap, BTreeSet};

use countersign::v1;
use countersign::v1::drawing::Content;
use countersign_paper::check_picture;

use super::parse::Faults;
use crate::domain::drawn::{Drawn, Sketch, Strokes};
use crate::domain::envelope::Digest;
use crate::domain::field::Value;
use crate::domain::id::FieldId;
use crate::domain::limits::{DRAWN_BYTES_MAX, PICTURE_BYTES_MAX, POINTS_ALTOGETHER_MAX, POINTS_MAX, STROKES_MAX};

/// The pen where none is given, and from where to where one may be.
const PEN: (f32, std::ops::RangeInclusive<f32>) = (0.02, 0.001..=0.2);
const ASPECT: std::ops::RangeInclusive<f32> = 0.1..=50.0;

/// A drawing for a field. Reads whole pictures: not for a thread that serves calls.
pub(super) fn drawn(faults: &mut Faults, path: &str, given: v1::Drawing) -> Drawn {
    let sketch = match given.content {
        Some(Content::Picture(bytes)) => {
            if bytes.len() > PICTURE_BYTES_MAX {
                faults.add(format!("{path}.drawn.picture"), format!("is larger than {PICTURE_BYTES_MAX} bytes"));
            } else if let Err(why) = check_picture(&bytes) {
                faults.add(format!("{path}.drawn.picture"), why.to_string());
            }
            Sketch::Picture(bytes.into())
        }
        Some(Content::Strokes(given)) => Sketch::Strokes(strokes(faults, &format!("{path}.drawn.strokes"), &given)),
        None => {
            faults.add(format!("{path}.drawn"), "must hold `picture` or `strokes`");
            Sketch::Picture(Vec::new())
        }
    };
    Drawn::new(sketch.bytes())
}

fn strokes(faults: &mut Faults, path: &str, given: &v1::Strokes) -> Strokes {
    let count = given.strokes.len();
    let points: usize = given.strokes.iter().map(|stroke| stroke.x.len()).sum();
    if count == 0 || count > STROKES_MAX {
        faults.add(format!("{path}.strokes"), format!("must be 1 to {STROKES_MAX}"));
    }
    if points > POINTS_ALTOGETHER_MAX {
        faults.add(format!("{path}.strokes"), format!("have more than {POINTS_ALTOGETHER_MAX} points altogether"));
    }
    if given.aspect != 0.0 && !ASPECT.contains(&given.aspect) {
        faults.add(format!("{path}.aspect"), "must be 0 or 0.1 to 50");
    }
    if given.pen != 0.0 && !PEN.1.contains(&given.pen) {
        faults.add(format!("{path}.pen"), "must be 0 or 0.001 to 0.2");
    }
    for (index, stroke) in given.strokes.iter().take(STROKES_MAX).enumerate() {
        let at = format!("{path}.strokes[{index}]");
        if stroke.x.is_empty() || stroke.x.len() > POINTS_MAX {
            faults.add(format!("{at}.x"), format!("must be 1 to {POINTS_MAX} places"));
        }
        if stroke.x.len() != stroke.y.len() {
            faults.add(format!("{at}.y"), "must be as many places as `x`");
        }
        for (name, places) in [("x", &stroke.x), ("y", &stroke.y)] {
            if places.iter().any(|place| !(0.0..=1.0).contains(place)) {
                faults.add(format!("{at}.{name}"), "must be 0 to 1");
            }
        }
    }
    let points =
        |stroke: &v1::Stroke| stroke.x.iter().copied().zip(stroke.y.iter().copied()).take(POINTS_MAX).collect();
    Strokes {
        aspect: given.aspect,
        pen: if given.pen == 0.0 { PEN.0 } else { given.pen },
        strokes: given.strokes.iter().take(STROKES_MAX).map(points).collect(),
    }
}

/// Whether all drawings of an act, each counted once, are within bounds.
pub(super) fn bounded(faults: &mut Faults, values: &[(FieldId, Value)]) {
    let mut seen = BTreeSet::new();
    let bytes: usize = values
        .iter()
        .filter_map(|(_, value)| match value {
            Value::Drawn(drawn) if seen.insert(drawn.sha256) => drawn.content.as_ref().map(|content| content.len()),
            Value::Drawn(_) | Value::Text(_) | Value::Checked(_) => None,
        })
        .sum();
    if bytes > DRAWN_BYTES_MAX {
        faults.add("values", format!("hold drawings of more than {DRAWN_BYTES_MAX} bytes altogether"));
    }
}

/// Whether anything of a session was drawn.
pub(super) fn any_in(session: &v1::SigningSession) -> bool {
    let is_drawn = |value: &v1::FieldValue| matches!(value.value, Some(v1::field_value::Value::Drawn(_)));
    session.fields.iter().filter_map(|field| field.value.as_ref()).any(is_drawn)
}

/// Puts what was drawn into a session's fields.
pub(super) fn show(session: &mut v1::SigningSession, kept: &BTreeMap<Digest, Vec<u8>>) {
    for field in &mut session.fields {
        if let Some(v1::FieldValue { value: Some(v1::field_value::Value::Drawn(drawing)) }) = &mut field.value {
            let digest = hex::decode(&drawing.sha256).ok().and_then(|bytes| Digest::try_from(bytes).ok());
            let sketch = digest.and_then(|digest| kept.get(&digest)).and_then(|bytes| Sketch::of(bytes));
            drawing.content = sketch.map(content);
        }
    }
}

fn content(sketch: Sketch) -> Content {
    match sketch {
        Sketch::Picture(bytes) => Content::Picture(bytes.into()),
        Sketch::Strokes(kept) => {
            let stroke = |points: &Vec<(f32, f32)>| v1::Stroke {
                x: points.iter().map(|(x, _)| *x).collect(),
                y: points.iter().map(|(_, y)| *y).collect(),
            };
            let strokes = kept.strokes.iter().map(stroke).collect();
            Content::Strokes(v1::Strokes { strokes, aspect: kept.aspect, pen: kept.pen })
        }
    }
}
