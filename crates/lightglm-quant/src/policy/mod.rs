//! Policies: which matrix becomes what.

mod error;
mod footprint;

pub use error::PolicyError;
pub use footprint::{Footprint, footprint};

use std::fmt;
use std::str::FromStr;

use glob::Pattern;
use lightglm_kernels::ScaleDtype;

use crate::{QuantizedScheme, Scheme};

/// The pattern that stands for everything that is not named otherwise.
const REST: &str = "*";

/// Matrices that every scheme for the rest treats with more care: the embedding table (the head too,
/// where the two are tied), and the head.
const TABLES: [&str; 2] = ["model.embed_tokens", "lm_head"];

/// Which matrix becomes what: rules in order, of which the first that matches holds.
///
/// A rule is a name without `.weight`, or a glob over names (`*.down_proj`, `model.layers.[0-3].*`).
/// What matches no rule stays dense. The bare `*` names no matrix, so the embedding table and the
/// head, where only it matches them, get the scheme's gentler form ([`Scheme::for_tables`]): 8 bits
/// for 4.
///
/// As text: `lm_head=int8,*.down_proj=int8,*=int4`; a scheme alone stands for `*=` that scheme.
///
/// ```
/// use lightglm_quant::{Policy, Scheme};
/// let policy: Policy = "*.down_proj=int8,*=int4".parse()?;
/// assert_eq!(policy.scheme("model.layers.0.mlp.down_proj"), Scheme::INT8);
/// assert_eq!(policy.scheme("model.layers.0.mlp.gate_up_proj"), Scheme::INT4);
/// assert_eq!(policy.scheme("model.embed_tokens"), Scheme::INT4.for_tables());
/// assert_eq!(policy.to_string(), "*.down_proj=int8,*=int4");
/// # Ok::<(), lightglm_quant::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    scheme: Scheme,
}

impl Policy {
    /// One scheme for all, in its gentler form for the tables.
    pub fn uniform(scheme: Scheme) -> Self {
        Self { rules: vec![Rule { pattern: Pattern::new(REST).expect("a pattern"), scheme }] }
    }

    /// A policy of rules in order: patterns and schemes. What matches none stays dense.
    ///
    /// # Errors
    /// [`PolicyError::Pattern`].
    pub fn new<'a>(
        rules: impl IntoIterator<Item = (&'a str, Scheme)>,
    ) -> Result<Self, PolicyError> {
        let rule =
            |(pattern, scheme)| parse_pattern(pattern).map(|pattern| Rule { pattern, scheme });
        Ok(Self { rules: rules.into_iter().map(rule).collect::<Result<_, _>>()? })
    }

    /// The rules in order.
    pub fn rules(&self) -> impl Iterator<Item = (&str, Scheme)> {
        self.rules.iter().map(|rule| (rule.pattern.as_str(), rule.scheme))
    }

    /// What the matrix `name` (without `.weight`) becomes.
    pub fn scheme(&self, name: &str) -> Scheme {
        let rule = self.rules.iter().find(|rule| rule.pattern.matches(name));
        match rule {
            None => Scheme::Dense,
            Some(rule) if rule.pattern.as_str() == REST && TABLES.contains(&name) => {
                rule.scheme.for_tables()
            }
            Some(rule) => rule.scheme,
        }
    }

    /// Checks that every rule but the bare `*` matches one of `names`: a rule that matches nothing
    /// is a typing error.
    ///
    /// # Errors
    /// [`PolicyError::NoSuchMatrix`].
    pub fn check_names<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Result<(), PolicyError> {
        for Rule { pattern, .. } in &self.rules {
            let known = names.clone().into_iter().any(|name| pattern.matches(name));
            if pattern.as_str() != REST && !known {
                let example = names.clone().into_iter().next().unwrap_or_default();
                let (pattern, example) = (pattern.as_str().to_owned(), example.to_owned());
                return Err(PolicyError::NoSuchMatrix { pattern, example });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for Rule { pattern, scheme } in &self.rules {
            write!(f, "{comma}{pattern}={scheme}")?;
            comma = ",";
        }
        Ok(())
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if !text.contains(['=', ',']) {
            return Ok(Self::uniform(parse_scheme(text)?));
        }
        let rule = |rule: &str| {
            let Some((pattern, scheme)) = rule.split_once('=') else {
                return Err(PolicyError::Rule { rule: rule.trim().to_owned() });
            };
            let pattern = parse_pattern(pattern.trim())?;
            Ok(Rule { pattern, scheme: parse_scheme(scheme)? })
        };
        Ok(Self { rules: text.split(',').map(rule).collect::<Result<_, _>>()? })
    }
}

/// A scheme that matrices can be quantized to.
fn parse_scheme(text: &str) -> Result<Scheme, PolicyError> {
    let scheme = text.trim().parse()?;
    match scheme {
        Scheme::Quantized(QuantizedScheme { weight, .. })
            if weight.scale_dtype == ScaleDtype::Nested =>
        {
            Err(PolicyError::Nested { scheme: text.trim().to_owned() })
        }
        scheme => Ok(scheme),
    }
}

fn parse_pattern(pattern: &str) -> Result<Pattern, PolicyError> {
    let error = |reason: &str| {
        Err(PolicyError::Pattern { pattern: pattern.to_owned(), reason: reason.to_owned() })
    };
    match Pattern::new(pattern) {
        _ if pattern.is_empty() => error("it is empty"),
        // They part rules from each other, and patterns from schemes.
        _ if pattern.contains([',', '=']) => error("no name has a comma or an equals sign"),
        Ok(parsed) => Ok(parsed),
        Err(reason) => error(reason.msg),
    }
}
