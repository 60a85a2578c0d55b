//! The brand's colour, and what can be read on it.

/// The service's own.
const OWN: Color = Color { red: 0x1d, green: 0x4e, blue: 0xd8 };

/// A colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color {
    red: u8,
    green: u8,
    blue: u8,
}

impl Color {
    /// From `#` and six hexadecimal digits; anything else is the service's own.
    #[must_use]
    pub fn of_brand(text: &str) -> Self {
        let digits = text
            .strip_prefix('#')
            .filter(|digits| digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let part = |from| digits.and_then(|digits| u8::from_str_radix(digits.get(from..from + 2)?, 16).ok());
        match (part(0), part(2), part(4)) {
            (Some(red), Some(green), Some(blue)) => Self { red, green, blue },
            _ => OWN,
        }
    }

    /// As it is written in HTML.
    #[must_use]
    pub fn html(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.red, self.green, self.blue)
    }

    /// Black or white: whichever stands out more on it. By WCAG 2 one of them always has a contrast of 4.5 at least.
    #[must_use]
    pub fn words_on_it(self) -> &'static str {
        let light = self.luminance();
        if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) { "#000000" } else { "#ffffff" }
    }

    /// Relative luminance by WCAG 2, 0 to 1.
    fn luminance(self) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.red) + 0.7152 * linear(self.green) + 0.0722 * linear(self.blue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_be_read_on_every_colour() {
        for red in (0..=255).step_by(15) {
            for green in (0..=255).step_by(15) {
                for blue in (0..=255).step_by(15) {
                    let color = Color { red, green, blue };
                    let words = if color.words_on_it() == "#ffffff" { 1.0 } else { 0.0 };
                    let (low, high) = (color.luminance().min(words), color.luminance().max(words));
                    assert!((high + 0.05) / (low + 0.05) >= 4.5, "{}", color.html());
                }
            }
        }
    }

    #[test]
    fn what_is_no_colour_is_the_services_own() {
        assert_eq!(Color::of_brand("#FFcc00").html(), "#ffcc00");
        for text in ["", "red", "#fff", "#ggqqrr", "#12345é", "#1234567", "#+1+1+1\";background:url(x)"] {
            assert_eq!(Color::of_brand(text), OWN, "{text}");
        }
        assert_eq!(Color::of_brand("#+1+1+1"), OWN, "a sign is no digit");
    }
}
