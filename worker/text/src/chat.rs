//! Chat templates: how a model wants a conversation written. They are Jinja programs that come with
//! the model, and are run as Hugging Face's `apply_chat_template` runs them, within a limit.

mod json;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::error::Error as _;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::TextError;

/// Work that one rendering may take: an instruction, or 64 bytes of text, is one. A message takes
/// some tens; all of it is under a second and 256 MB.
const FUEL: u64 = 4_000_000;

const NAME: &str = "chat_template";

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks: `system`, `user`, `assistant`, or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    pub(crate) fn compile(
        source: &str,
        bos_token: Option<String>,
        eos_token: Option<String>,
    ) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment
            .set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", json::filter);
        // Where the model has no such token, the variable is undefined.
        for (name, token) in [("bos_token", bos_token), ("eos_token", eos_token)] {
            if let Some(token) = token {
                environment.add_global(name, token);
            }
        }
        environment.add_template_owned(NAME, source.to_owned())?;
        Ok(Self { environment })
    }

    /// The text of a conversation; with `add_generation_prompt`, it ends where the assistant is
    /// to go on.
    ///
    /// # Errors
    /// [`TextError::Refused`] if the template rejects the conversation, and
    /// [`TextError::TemplateFailed`] if it fails or runs on for too long.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|said| context! { role => said.role.as_str(), content => said.content.as_str() })
            .collect();
        let variables = context! {
            messages,
            add_generation_prompt,
            tools => (),
            documents => (),
        };
        self.environment.get_template(NAME).and_then(|template| template.render(variables)).map_err(
            |source| match refusal(&source) {
                Some(message) => TextError::Refused { message },
                None => TextError::TemplateFailed { source },
            },
        )
    }
}

/// A template's own objection to a conversation.
#[derive(Debug, Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(message)))
}

fn refusal(error: &Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(Raised(message)) = error.downcast_ref() {
            return Some(message.clone());
        }
        cause = error.source();
    }
    None
}
