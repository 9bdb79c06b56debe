//! The settings of one run: words of the form `name=value`.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Context as _, Result, bail};

/// Settings not asked for yet.
#[derive(Debug)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Reads them from arguments.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let pair = |word: String| {
            let (name, value) = word
                .split_once('=')
                .with_context(|| format!("{word:?} is no setting of the form name=value"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        arguments.map(pair).collect::<Result<_>>().map(Self)
    }

    /// Takes one out; the default if it is not there.
    pub(super) fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T> {
        match self.0.remove(name) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(value) => Ok(value),
                Err(_) => bail!("{name}={text}: not a value of this setting"),
            },
        }
    }

    /// No setting may be left that nobody asked for.
    pub(super) fn end(&self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => bail!("this benchmark has no setting {name:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Result<Options> {
        Options::parse(words.iter().map(ToString::to_string))
    }

    #[test]
    fn what_is_set_is_taken_once() {
        let mut options = options(&["rounds=3", "backend=kprobe"]).unwrap();
        assert_eq!(options.take("rounds", 5).unwrap(), 3);
        assert_eq!(options.take("rounds", 5).unwrap(), 5);
        let error = options.end().unwrap_err().to_string();
        assert!(error.contains("backend"), "{error}");
        assert_eq!(options.take("backend", String::new()).unwrap(), "kprobe");
        options.end().unwrap();
    }

    #[test]
    fn nonsense_is_named() {
        assert!(options(&["rounds"]).unwrap_err().to_string().contains("rounds"));
        let error = options(&["rounds=x"]).unwrap().take("rounds", 1).unwrap_err().to_string();
        assert!(error.contains("rounds=x"), "{error}");
    }
}
