//! Where a page as displayed lies in the page's own coordinates.
//!
//! It must never read a document: boxes, turn and unit come in as numbers, and sizes and matrices go out.

use serde::{Deserialize, Serialize};

/// How far a page is turned clockwise when it is displayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Rotation {
    /// As drawn.
    #[default]
    None,
    /// A quarter turn clockwise.
    Quarter,
    /// Upside down.
    Half,
    /// Three quarters clockwise.
    ThreeQuarters,
}

impl Rotation {
    /// The turn of a `/Rotate` value; values that are no multiple of 90 turn nothing, as in other readers.
    pub(crate) fn from_degrees(degrees: i64) -> Self {
        match degrees.rem_euclid(360) {
            90 => Self::Quarter,
            180 => Self::Half,
            270 => Self::ThreeQuarters,
            _ => Self::None,
        }
    }

    /// The turn in degrees, clockwise: 0, 90, 180 or 270.
    pub fn degrees(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Quarter => 90,
            Self::Half => 180,
            Self::ThreeQuarters => 270,
        }
    }
}

/// A box in user space, corners in order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PdfBox {
    pub(crate) left: f64,
    pub(crate) bottom: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
}

impl PdfBox {
    /// The page that readers assume when a document names none: US Letter.
    pub(crate) const LETTER: Self = Self { left: 0.0, bottom: 0.0, right: 612.0, top: 792.0 };

    /// The box between two opposite corners, given in any order; none if it has no area.
    pub(crate) fn between(corners: [f64; 4]) -> Option<Self> {
        let [x0, y0, x1, y1] = corners;
        let found = Self { left: x0.min(x1), bottom: y0.min(y1), right: x0.max(x1), top: y0.max(y1) };
        let sane = corners.iter().all(|corner| corner.is_finite());
        (sane && found.right > found.left && found.top > found.bottom).then_some(found)
    }

    /// What two boxes share; none if they do not overlap.
    pub(crate) fn intersection(self, other: Self) -> Option<Self> {
        let (left, bottom) = (self.left.max(other.left), self.bottom.max(other.bottom));
        let (right, top) = (self.right.min(other.right), self.top.min(other.top));
        (right > left && top > bottom).then_some(Self { left, bottom, right, top })
    }
}

/// The visible part of a page, its turn, and the size of its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Geometry {
    pub(crate) visible: PdfBox,
    pub(crate) rotation: Rotation,
    /// Points in one unit of user space.
    pub(crate) unit_pt: f64,
}

impl Geometry {
    /// Width and height as displayed, in points.
    pub(crate) fn size_pt(&self) -> (f64, f64) {
        let across = (self.visible.right - self.visible.left) * self.unit_pt;
        let up = (self.visible.top - self.visible.bottom) * self.unit_pt;
        match self.rotation {
            Rotation::None | Rotation::Half => (across, up),
            Rotation::Quarter | Rotation::ThreeQuarters => (up, across),
        }
    }

    /// The matrix `[a b c d e f]` from the displayed page (points, origin bottom left, y upwards) to user space.
    pub(crate) fn displayed_to_user(&self) -> [f64; 6] {
        let s = 1.0 / self.unit_pt;
        let PdfBox { left, bottom, right, top } = self.visible;
        match self.rotation {
            Rotation::None => [s, 0.0, 0.0, s, left, bottom],
            Rotation::Quarter => [0.0, s, -s, 0.0, right, bottom],
            Rotation::Half => [-s, 0.0, 0.0, -s, right, top],
            Rotation::ThreeQuarters => [0.0, -s, s, 0.0, left, top],
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(geometry: &Geometry, x: f64, y: f64) -> (f64, f64) {
        let [a, b, c, d, e, f] = geometry.displayed_to_user();
        (a * x + c * y + e, b * x + d * y + f)
    }

    #[test]
    fn displayed_corners_land_on_the_corners_of_the_visible_box() {
        let visible = PdfBox::between([10.0, 20.0, 110.0, 220.0]).unwrap();
        // For each turn: the user-space corners seen bottom left and top right.
        let cases = [
            (Rotation::None, (10.0, 20.0), (110.0, 220.0)),
            (Rotation::Quarter, (110.0, 20.0), (10.0, 220.0)),
            (Rotation::Half, (110.0, 220.0), (10.0, 20.0)),
            (Rotation::ThreeQuarters, (10.0, 220.0), (110.0, 20.0)),
        ];
        for unit_pt in [1.0, 2.5] {
            for (rotation, bottom_left, top_right) in cases {
                let geometry = Geometry { visible, rotation, unit_pt };
                let (width, height) = geometry.size_pt();
                assert_eq!(map(&geometry, 0.0, 0.0), bottom_left, "{rotation:?}");
                assert_eq!(map(&geometry, width, height), top_right, "{rotation:?}");
            }
        }
    }

    #[test]
    fn odd_turns_are_understood() {
        assert_eq!(Rotation::from_degrees(-90), Rotation::ThreeQuarters);
        assert_eq!(Rotation::from_degrees(450), Rotation::Quarter);
        assert_eq!(Rotation::from_degrees(45), Rotation::None);
    }

    #[test]
    fn boxes_need_area_and_finite_corners() {
        assert!(PdfBox::between([0.0, 0.0, 0.0, 5.0]).is_none());
        assert!(PdfBox::between([0.0, 0.0, f64::NAN, 5.0]).is_none());
        let reversed = PdfBox::between([9.0, 8.0, 1.0, 2.0]).unwrap();
        assert_eq!((reversed.left, reversed.bottom), (1.0, 2.0));
        assert!(reversed.intersection(PdfBox::between([20.0, 20.0, 30.0, 30.0]).unwrap()).is_none());
    }
}
