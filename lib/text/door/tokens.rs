//! A tokenizer: text to ids and back, and what the caller needs to decode without calling.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{Decoder, DecoderWrapper, Tokenizer};

use crate::{Outcome, Trouble};

const MOST_IDS: u32 = 1 << 24;

/// PensiveDoorJoin.
#[derive(Clone, Copy, PartialEq)]
pub enum Join {
    Windowed = 0,
    Concatenated = 1,
    Spaced = 2,
}

pub struct Vocabulary {
    pub bytes: Vec<u8>,
    pub ends: Vec<i32>,
    pub flags: Vec<u8>,
    pub size: i32,
    pub join: Join,
}

struct Inner {
    tokenizer: Tokenizer,
    source: Vec<u8>,
    literal: OnceLock<Result<Tokenizer, String>>, // knows no special tokens in text; made when asked for
    pieces: Pieces,
}

pub struct Door {
    inner: Arc<Inner>,
    names: HashMap<i32, String>,
}

#[derive(Deserialize)]
struct Listed {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Lists {
    #[serde(default)]
    added_tokens: Vec<Listed>,
}

fn bad_file(error: impl std::fmt::Display) -> Trouble {
    Trouble::BadFile(error.to_string())
}

fn bad_argument(error: impl std::fmt::Display) -> Trouble {
    Trouble::BadArgument(error.to_string())
}

fn parse(json: &[u8]) -> Result<Tokenizer, String> {
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
    // Both are habits of whoever saved the file, not of the model.
    tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

impl Door {
    pub fn open(json: &[u8]) -> Outcome<Door> {
        let lists: Lists = serde_json::from_slice(json).map_err(bad_file)?;
        // The library reports its panics over odd files no better than as panics.
        let tokenizer = std::panic::catch_unwind(|| parse(json))
            .unwrap_or_else(|_| Err("a tokenizer that cannot be built".to_string()))
            .map_err(Trouble::BadFile)?;
        for token in lists.added_tokens {
            let got = tokenizer.token_to_id(&token.content);
            if got != Some(token.id) && !token.content.is_empty() {
                let got = got.map_or("none".to_string(), |id| id.to_string());
                let (content, id) = (token.content, token.id);
                return Err(bad_file(format!(
                    "added token {content:?} with id {id}, which gets {got}"
                )));
            }
        }
        let pieces = Pieces::of(tokenizer.get_decoder());
        let inner = Inner { tokenizer, source: json.to_vec(), literal: OnceLock::new(), pieces };
        Ok(Door { inner: Arc::new(inner), names: HashMap::new() })
    }

    pub fn with_names(&self, names: Vec<(i32, String)>) -> Door {
        let mut all = self.names.clone();
        all.extend(names);
        Door { inner: self.inner.clone(), names: all }
    }

    pub fn vocabulary(&self) -> Outcome<Vocabulary> {
        let tokenizer = &self.inner.tokenizer;
        let ids: HashSet<u32> = tokenizer.get_vocab(true).into_values().collect();
        let count = ids.iter().max().map_or(0, |most| most.saturating_add(1));
        if count > MOST_IDS {
            return Err(bad_file(format!("the token id {}", count - 1)));
        }
        let pieces = &self.inner.pieces;
        let mut vocabulary = Vocabulary {
            bytes: Vec::new(),
            ends: Vec::with_capacity(count as usize),
            flags: Vec::with_capacity(count as usize),
            size: ids.len() as i32,
            join: pieces.join,
        };
        for id in 0..count {
            let mut flags = 0;
            if let Some(token) = tokenizer.id_to_token(id) {
                flags = 1;
                flags |=
                    if tokenizer.get_added_vocabulary().is_special_token(&token) { 2 } else { 0 };
                flags |= if is_byte(&token) { 4 } else { 0 };
                if pieces.join != Join::Windowed {
                    vocabulary.bytes.extend(pieces.bytes(token)?);
                }
            }
            vocabulary.flags.push(flags);
            vocabulary.ends.push(i32::try_from(vocabulary.bytes.len()).map_err(bad_file)?);
        }
        Ok(vocabulary)
    }

    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Outcome<Vec<i32>> {
        let tokenizer = if parse_special { &self.inner.tokenizer } else { self.literal()? };
        let encoding = tokenizer.encode_fast(text, add_special).map_err(bad_argument)?;
        Ok(encoding.get_ids().iter().map(|id| *id as i32).collect())
    }

    fn literal(&self) -> Outcome<&Tokenizer> {
        let made = self.inner.literal.get_or_init(|| literal(&self.inner.source));
        made.as_ref().map_err(|error| Trouble::BadFile(error.clone()))
    }

    pub fn decode(&self, ids: &[i32], keep_special: bool) -> Outcome<String> {
        let tokenizer = &self.inner.tokenizer;
        let mut tokens = Vec::with_capacity(ids.len());
        let mut has_names = false;
        for id in ids {
            if let Some(name) = self.names.get(id) {
                has_names = true;
                tokens.push((name.clone(), true));
                continue;
            }
            let token = u32::try_from(*id).ok().and_then(|id| tokenizer.id_to_token(id));
            let token = token.ok_or_else(|| bad_argument(format!("the id {id}")))?;
            if keep_special || !tokenizer.get_added_vocabulary().is_special_token(&token) {
                tokens.push((token, false));
            }
        }
        if has_names && self.inner.pieces.join != Join::Windowed {
            return self.inner.pieces.decode(tokens);
        }
        let tokens: Vec<String> = tokens.into_iter().map(|(token, _)| token).collect();
        match tokenizer.get_decoder() {
            Some(decoder) => decoder.decode(tokens).map_err(bad_argument),
            None => Ok(tokens.join(" ")),
        }
    }

    pub fn find(&self, text: &str) -> Option<i32> {
        let id = self.inner.tokenizer.token_to_id(text).and_then(|id| i32::try_from(id).ok());
        let named = || self.names.iter().filter(|(_, name)| *name == text).map(|(id, _)| *id).min();
        id.or_else(named)
    }

    pub fn spelling(&self, id: i32) -> Option<String> {
        let known = || self.inner.tokenizer.id_to_token(u32::try_from(id).ok()?);
        self.names.get(&id).cloned().or_else(known)
    }
}

/// "<0x41>", as byte fallback spells it.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// A second tokenizer that spells special tokens out. A model that lists them as ordinary
/// words might still find them there, so these words get names that no text contains.
fn literal(source: &[u8]) -> Result<Tokenizer, String> {
    let mut json: Value = serde_json::from_slice(source).map_err(|error| error.to_string())?;
    let tag = RandomState::new().build_hasher().finish();
    let renamed = |name: &str| format!("\u{0}{tag:016x}\u{0}{name}");
    let specials: HashSet<String> = json["added_tokens"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|token| token["special"] == Value::Bool(true))
        .filter_map(|token| Some(token["content"].as_str()?.to_string()))
        .filter(|content| json["model"]["unk_token"] != **content)
        .collect();
    let model = &mut json["model"];
    // Merges name their parts; without `ignore_merges` nothing but a merge makes a whole word.
    if model.get("merges").is_none() || model["ignore_merges"] == Value::Bool(true) {
        match &mut model["vocab"] {
            Value::Object(words) => {
                let old = std::mem::take(words);
                words.extend(old.into_iter().map(|(word, id)| {
                    (if specials.contains(&word) { renamed(&word) } else { word }, id)
                }));
            }
            Value::Array(pieces) => {
                for piece in pieces.iter_mut().filter_map(|piece| piece.get_mut(0)) {
                    if piece.as_str().is_some_and(|word| specials.contains(word)) {
                        *piece = Value::String(renamed(piece.as_str().unwrap_or_default()));
                    }
                }
            }
            _ => {}
        }
        for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
            if token["content"].as_str().is_some_and(|content| specials.contains(content)) {
                token["content"] =
                    Value::String(renamed(token["content"].as_str().unwrap_or_default()));
            }
        }
    }
    let bytes = serde_json::to_vec(&json).map_err(|error| error.to_string())?;
    let mut tokenizer = parse(&bytes).or_else(|_| parse(source))?;
    tokenizer.set_encode_special_tokens(true);
    Ok(tokenizer)
}

/// Decoders that look at one token at a time, as bytes a token.
struct Pieces {
    join: Join,
    stages: Vec<DecoderWrapper>,
    byte_of: Option<HashMap<char, u8>>, // where the decoder is byte level
}

impl Pieces {
    fn of(decoder: Option<&DecoderWrapper>) -> Pieces {
        let mut pieces = Pieces { join: Join::Spaced, stages: Vec::new(), byte_of: None };
        let Some(decoder) = decoder else { return pieces };
        pieces.join = Join::Concatenated;
        let mut flat = Vec::new();
        flatten(decoder, &mut flat);
        let mut is_joined = false;
        for stage in flat {
            match stage {
                DecoderWrapper::Fuse(_) => is_joined = true,
                DecoderWrapper::ByteLevel(_) if !is_joined => {
                    pieces.byte_of = Some(byte_alphabet());
                    is_joined = true;
                }
                DecoderWrapper::Replace(_) | DecoderWrapper::Strip(_) if !is_joined => {
                    pieces.stages.push(stage.clone())
                }
                _ => pieces.join = Join::Windowed,
            }
        }
        pieces
    }

    fn bytes(&self, token: String) -> Outcome<Vec<u8>> {
        let mut tokens = vec![token];
        for stage in &self.stages {
            tokens = stage.decode_chain(tokens).map_err(bad_file)?;
        }
        let text = tokens.concat();
        let Some(byte_of) = &self.byte_of else { return Ok(text.into_bytes()) };
        let bytes: Option<Vec<u8>> = text.chars().map(|c| byte_of.get(&c).copied()).collect();
        Ok(bytes.unwrap_or_else(|| text.into_bytes()))
    }

    fn decode(&self, tokens: Vec<(String, bool)>) -> Outcome<String> {
        let mut bytes = Vec::new();
        for (index, (token, is_name)) in tokens.into_iter().enumerate() {
            if index > 0 && self.join == Join::Spaced {
                bytes.push(b' ');
            }
            bytes.extend(if is_name { token.into_bytes() } else { self.bytes(token)? });
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn flatten<'a>(decoder: &'a DecoderWrapper, flat: &mut Vec<&'a DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().for_each(|inner| flatten(inner, flat))
        }
        other => flat.push(other),
    }
}

/// GPT-2's printable stand-ins: a byte that prints is itself, the others count up from U+0100.
fn byte_alphabet() -> HashMap<char, u8> {
    let mut alphabet = HashMap::new();
    let mut next = 0x100u32;
    for byte in 0..=255u8 {
        let is_printable = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let stand_in = if is_printable { byte as u32 } else { next };
        next += if is_printable { 0 } else { 1 };
        alphabet.extend(char::from_u32(stand_in).map(|c| (c, byte)));
    }
    alphabet
}
