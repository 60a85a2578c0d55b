//! The page of figures, part by part: one can be measured anew and the others stay as they are.

/// The part that comes last.
pub const LAST: &str = "What is compared";
const HEAD: &str = "\n## ";

/// Titles and what stands below them.
#[derive(Default)]
pub struct Page(Vec<(String, String)>);

impl Page {
    /// The parts of a page that was written; none of a text that is no such page.
    pub fn read(text: &str) -> Self {
        let parts = text.split(HEAD).skip(1).filter_map(|part| part.split_once("\n\n"));
        Self(parts.map(|(title, text)| (title.to_owned(), text.trim_end().to_owned())).collect())
    }

    /// Puts a part in the place of that of the same title, or before the last.
    pub fn put(&mut self, title: &str, text: &str) {
        let text = text.trim_end().to_owned();
        if let Some((_, old)) = self.0.iter_mut().find(|(other, _)| other == title) {
            *old = text;
            return;
        }
        let last = self.0.iter().position(|(other, _)| other == LAST).unwrap_or(self.0.len());
        self.0.insert(last, (title.to_owned(), text));
    }

    /// The page, behind what introduces it.
    pub fn write(&self, introduction: &str) -> String {
        let parts = self.0.iter().map(|(title, text)| format!("{HEAD}{title}\n\n{text}\n"));
        std::iter::once(introduction.to_owned()).chain(parts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_the_place_of_what_it_was() {
        let written = |parts: &[(&str, &str)]| {
            let mut page = Page::default();
            parts.iter().for_each(|(title, text)| page.put(title, text));
            page.write("# Title\n")
        };
        let old = written(&[("Stream", "slow\n\n- missed"), ("Overload", "0.4"), (LAST, "old words")]);
        assert_eq!(Page::read(&old).write("# Title\n"), old, "what is read and written is the same");
        let mut page = Page::read(&old);
        page.put("Stream", "fast\n");
        page.put("Abuse", "none");
        page.put(LAST, "new words");
        let expected = [("Stream", "fast"), ("Overload", "0.4"), ("Abuse", "none"), (LAST, "new words")];
        assert_eq!(page.write("# Title\n"), written(&expected));
    }
}
