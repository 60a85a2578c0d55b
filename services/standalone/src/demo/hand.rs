//! A signature drawn by hand, as a page with a pen would send it.

use countersign::v1;

/// Loops and a flourish.
pub(super) fn drawing() -> v1::Drawing {
    let loops = (0..90).map(|step| {
        let turn = step as f32 / 9.0;
        let across = 0.06 + turn * 0.075 + 0.05 * (turn * 2.2).sin();
        (across, 0.5 + 0.34 * (turn * 2.2).cos() * (1.0 - turn * 0.07) + 0.06 * (turn * 0.8).sin())
    });
    let flourish = (0..20).map(|step| (0.1 + step as f32 * 0.045, 0.92 - 0.12 * (step as f32 / 6.0).sin()));
    let strokes = v1::Strokes { strokes: vec![stroke(loops), stroke(flourish)], aspect: 3.2, pen: 0.03 };
    v1::Drawing { content: Some(v1::drawing::Content::Strokes(strokes)), ..v1::Drawing::default() }
}

fn stroke(points: impl Iterator<Item = (f32, f32)>) -> v1::Stroke {
    let (x, y) = points.map(|(x, y)| (x.clamp(0.0, 1.0), y.clamp(0.0, 1.0))).unzip();
    v1::Stroke { x, y }
}
