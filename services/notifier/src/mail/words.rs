//! The texts of mails in every language, made into text and HTML. A text is a template; what stands in its place is data and
//! never read as a template, and in HTML it is escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use minijinja::{AutoEscape, Environment, HtmlEscape, UndefinedBehavior, Value, context};

use super::language::{Language, Moment};
use super::text::isolated;

/// What a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Subjects and bodies of plain text.
    Text,
    /// Bodies of HTML.
    Html,
}

impl Form {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Html => "html",
        }
    }
}

/// What stands in the places of a text.
#[derive(Clone, Debug, Default)]
pub struct Facts(BTreeMap<&'static str, Fact>);

#[derive(Clone, Debug)]
enum Fact {
    /// From outside.
    Foreign(String),
    /// From us.
    Own(String),
    /// An instant.
    Moment(Moment),
}

impl Facts {
    /// With text from outside: it stays apart from the words around it.
    #[must_use]
    pub fn foreign(mut self, name: &'static str, text: &str) -> Self {
        self.0.insert(name, Fact::Foreign(text.to_owned()));
        self
    }

    /// With text of ours.
    #[must_use]
    pub fn own(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.0.insert(name, Fact::Own(text.into()));
        self
    }

    /// With an instant.
    #[must_use]
    pub fn moment(mut self, name: &'static str, moment: Moment) -> Self {
        self.0.insert(name, Fact::Moment(moment));
        self
    }
}

/// All texts.
pub struct Words {
    environment: Environment<'static>,
}

impl Words {
    /// Reads them.
    pub fn load() -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|name| match name.rsplit('.').next() {
            Some("html") => AutoEscape::Html,
            _ => AutoEscape::None,
        });
        environment.add_template("letter.txt", include_str!("../../templates/letter.txt"))?;
        environment.add_template("letter.html", include_str!("../../templates/letter.html"))?;
        for language in Language::ALL {
            let texts: BTreeMap<String, String> = serde_json::from_str(language.texts()).context("texts of mails")?;
            for (key, text) in texts {
                for form in [Form::Text, Form::Html] {
                    environment.add_template_owned(name(language, &key, form), text.clone())?;
                }
            }
        }
        Ok(Self { environment })
    }

    /// A text.
    pub fn say(&self, language: Language, key: &str, facts: &Facts, form: Form) -> anyhow::Result<String> {
        let mut places: BTreeMap<&str, Value> = BTreeMap::new();
        for (place, fact) in &facts.0 {
            let value = match (fact, form) {
                (Fact::Own(text), _) => Value::from(text.as_str()),
                (Fact::Foreign(text), Form::Text) => Value::from(isolated(text)),
                (Fact::Foreign(text), Form::Html) => {
                    Value::from_safe_string(format!("<bdi>{}</bdi>", HtmlEscape(text)))
                }
                (Fact::Moment(moment), _) => Value::from(self.moment(language, moment)?),
            };
            places.insert(place, value);
        }
        self.render(&name(language, key, form), Value::from(places))
    }

    fn moment(&self, language: Language, moment: &Moment) -> anyhow::Result<String> {
        let month = self.say(language, &format!("month_{}", moment.month), &Facts::default(), Form::Text)?;
        let Moment { day, year, time, zone, .. } = moment;
        self.render(&name(language, "date", Form::Text), context! { day, month, year, time, zone })
    }

    /// A whole body.
    pub(super) fn body(&self, form: Form, context: Value) -> anyhow::Result<String> {
        self.render(&format!("letter.{}", form.suffix()), context)
    }

    fn render(&self, template: &str, context: Value) -> anyhow::Result<String> {
        // The cause is not shown: it might quote the context.
        let rendered = self.environment.get_template(template).and_then(|template| template.render(context)).ok();
        rendered.with_context(|| format!("the mail's text {template} cannot be made"))
    }
}

fn name(language: Language, key: &str, form: Form) -> String {
    let mut name = String::with_capacity(32);
    let _ = write!(name, "{}/{key}.{}", language.tag(), form.suffix());
    name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn texts(language: Language) -> BTreeMap<String, String> {
        serde_json::from_str(language.texts()).unwrap()
    }

    fn places(text: &str) -> BTreeSet<String> {
        let mut environment = Environment::new();
        environment.add_template("text", text).unwrap();
        environment.get_template("text").unwrap().undeclared_variables(false).into_iter().collect()
    }

    /// No language lacks a text that another has, or a place in one.
    #[test]
    fn all_languages_say_the_same() {
        let english = texts(Language::English);
        for language in Language::ALL {
            let own = texts(language);
            assert_eq!(own.keys().collect::<Vec<_>>(), english.keys().collect::<Vec<_>>(), "{language:?}");
            for (key, text) in &own {
                assert!(!text.trim().is_empty(), "{language:?} {key}");
                assert_eq!(places(text), places(&english[key]), "{language:?} {key}");
                let plain = !text.contains(['<', '>', '\n', '\r']);
                assert!(plain, "{language:?} {key}: the same text goes into subjects, text and HTML");
            }
        }
    }

    #[test]
    fn dates_are_written_as_people_write_them() {
        let words = Words::load().unwrap();
        let facts = |at: &str| Facts::default().moment("deadline", Moment::at(at.parse().unwrap(), "Europe/Lisbon"));
        for (language, text) in [
            (Language::English, "You can do so until 1 March 2031, 09:05 (Europe/Lisbon, UTC+0)."),
            (Language::German, "Das ist möglich bis 1. März 2031, 09:05 Uhr (Europe/Lisbon, UTC+0)."),
            (Language::Spanish, "Puede hacerlo hasta el 1 de marzo de 2031, 09:05 h (Europe/Lisbon, UTC+0)."),
            (Language::French, "Vous pouvez le faire jusqu’au 1er mars 2031 à 09:05 (Europe/Lisbon, UTC+0)."),
            (Language::Portuguese, "É possível fazê-lo até 1 de março de 2031, 09:05 (Europe/Lisbon, UTC+0)."),
        ] {
            let said = words.say(language, "deadline", &facts("2031-03-01T09:05:00Z"), Form::Text).unwrap();
            assert_eq!(said, text);
        }
    }

    #[test]
    fn t57_what_stands_in_a_text_is_data() {
        let words = Words::load().unwrap();
        let facts = Facts::default().foreign("name", "<b>{{ name }}</b> \"&'");
        let said = |form| words.say(Language::English, "greeting_name", &facts, form).unwrap();
        assert_eq!(said(Form::Text), "Hello <b>{{ name }}</b> \"&',");
        assert_eq!(said(Form::Html), "Hello <bdi>&lt;b&gt;{{ name }}&lt;&#x2f;b&gt; &quot;&amp;&#x27;</bdi>,");
        assert!(words.say(Language::English, "greeting_name", &Facts::default(), Form::Text).is_err());
        assert!(words.say(Language::English, "no_such_text", &Facts::default(), Form::Text).is_err());
    }
}
