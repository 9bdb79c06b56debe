//! The labels that every family of a listener has. They are most of an exposition's bytes, and
//! of a group the same a hundred times: in the text formats they are written once, escaped, and
//! handed to the encoder as they are.

use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

use crate::{model::group::GroupView, serve::metrics::format::Format};

/// `netns`, `address` and `port` of a group.
#[derive(Debug)]
pub(super) enum GroupLabels {
    /// Of the text formats.
    Text(Written),
    /// Names and values.
    Parts([(&'static str, Box<str>); 3]),
}

/// All labels as the text formats have them, but for the last quote.
#[derive(Debug)]
pub(super) struct Written {
    text: Box<str>,
    /// Where the last label's name ends.
    key: usize,
    /// Where its value begins.
    value: usize,
}

impl GroupLabels {
    pub(super) fn new(group: &GroupView, format: Format) -> Self {
        let (address, port) = (group.key.place.address(), group.key.place.port());
        if format == Format::Protobuf {
            let netns = Box::from(&*group.netns);
            return Self::Parts([
                ("netns", netns),
                ("address", address.into()),
                ("port", port.into()),
            ]);
        }
        let mut text = String::with_capacity(64);
        text.push_str("netns=\"");
        escape(&mut text, &group.netns);
        text.push_str("\",address=\"");
        escape(&mut text, &address);
        text.push_str("\",port");
        let key = text.len();
        text.push_str("=\"");
        let value = text.len();
        // A number, or a word of ours: the encoder finds nothing to escape.
        text.push_str(&port);
        Self::Text(Written { text: text.into(), key, value })
    }

    /// These and more.
    pub(super) fn and<'a, const N: usize>(
        &'a self,
        more: [(&'static str, &'a str); N],
    ) -> And<'a, N> {
        And { labels: self, more }
    }
}

impl EncodeLabelSet for GroupLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        match self {
            // The encoder escapes values and takes names as they are: to it, this is one label.
            Self::Text(Written { text, key, value }) => {
                one(encoder, &text[..*key], &text[*value..])
            }
            Self::Parts(parts) => {
                parts.iter().try_for_each(|(name, value)| one(encoder, name, value))
            }
        }
    }
}

/// The labels of a group and more.
#[derive(Debug)]
pub(super) struct And<'a, const N: usize> {
    labels: &'a GroupLabels,
    more: [(&'static str, &'a str); N],
}

impl<const N: usize> EncodeLabelSet for And<'_, N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let Self { labels, more } = self;
        let [(name, value), rest @ ..] = more.as_slice() else { return labels.encode(encoder) };
        match labels {
            GroupLabels::Text(Written { text, .. }) => {
                let mut label = encoder.encode_label();
                let mut key = label.encode_label_key()?;
                key.write_str(text)?;
                key.write_str("\",")?;
                key.write_str(name)?;
                let mut label = key.encode_label_value()?;
                label.write_str(value)?;
                label.finish()?;
            }
            GroupLabels::Parts(_) => {
                labels.encode(encoder)?;
                one(encoder, name, value)?;
            }
        }
        rest.iter().try_for_each(|(name, value)| one(encoder, name, value))
    }
}

fn one(encoder: &mut LabelSetEncoder<'_>, name: &str, value: &str) -> fmt::Result {
    let mut label = encoder.encode_label();
    let mut key = label.encode_label_key()?;
    key.write_str(name)?;
    let mut label = key.encode_label_value()?;
    label.write_str(value)?;
    label.finish()
}

/// As the formats want it: OpenMetrics 1.0, "escaped-string".
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}
