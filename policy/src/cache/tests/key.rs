//! A key says all of its parts and nothing twice.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use super::super::*;
use super::random::Random;

fn settings(sets: usize) -> Vec<SettingsId> {
    let mut known = OutputSettings::default();
    (0..sets).map(|n| known.id([("a.a", n.to_string().as_str())]).unwrap()).collect()
}

fn epochs() -> [Generation; 2] {
    let database = Database::new(Slot::not_needed(Instant::now()));
    let before = database.epoch();
    database.flush();
    [before, database.epoch()]
}

#[test]
fn each_part_alone_changes_the_key() {
    let (sets, [epoch, later]) = (settings(2), epochs());
    let (text, binary) = (Parameter { format: 0, value: Some(b"7") }, Parameter { format: 1, value: Some(b"7") });
    let (null, empty) = (Parameter { value: None, ..text }, Parameter { value: Some(b""), ..text });
    let base = Parts {
        epoch,
        tenant: "acme",
        place: "a:5432/app",
        prepared: None,
        database: "db",
        text: b"select * from runs where id = $1",
        protocol: Protocol::Extended { described: true },
        parameter_types: &[23],
        parameters: &[text],
        result_formats: &[0],
        relations: &[16_384],
        role: "app",
        session_user: "login",
        inputs: &[("app.tenant_id", Some("1"))],
        settings: sets[0],
        rule: (1, 0),
    };
    let others = [
        Parts { epoch: later, ..base },
        Parts { tenant: "acme2", ..base },
        Parts { place: "b:5432/app", ..base },
        Parts { database: "db2", ..base },
        Parts { prepared: Some((0, 0)), ..base },
        Parts { prepared: Some((1, 0)), ..base },
        Parts { prepared: Some((0, 1)), ..base },
        Parts { text: b"select * from runs where id = $1 ", ..base },
        Parts { protocol: Protocol::Extended { described: false }, ..base },
        Parts { protocol: Protocol::Simple, ..base },
        Parts { parameter_types: &[20], ..base },
        Parts { parameter_types: &[], ..base },
        Parts { parameters: &[binary], ..base },
        Parts { parameters: &[null], ..base },
        Parts { parameters: &[empty], ..base },
        Parts { parameters: &[text, text], ..base },
        Parts { result_formats: &[1], ..base },
        Parts { result_formats: &[], ..base },
        Parts { relations: &[16_385], ..base },
        Parts { relations: &[16_384, 16_385], ..base },
        Parts { role: "app2", ..base },
        Parts { session_user: "login2", ..base },
        Parts { role: "login", session_user: "app", ..base },
        Parts { inputs: &[("app.tenant_id", Some("2"))], ..base },
        Parts { inputs: &[("app.tenant_id", Some(""))], ..base },
        Parts { inputs: &[("app.tenant_id", None)], ..base },
        Parts { inputs: &[("app.user_id", Some("1"))], ..base },
        Parts { inputs: &[], ..base },
        Parts { settings: sets[1], ..base },
        Parts { rule: (1, 1), ..base },
        Parts { rule: (2, 0), ..base },
    ];
    let mut known: HashMap<Key, usize> = HashMap::new();
    assert_eq!(known.insert(Key::of(&base).unwrap(), 0), None);
    for (at, parts) in others.iter().enumerate() {
        assert_eq!(known.insert(Key::of(parts).unwrap(), at + 1), None, "{parts:?}");
    }
    assert_eq!(Key::of(&base), Key::of(&base.clone()));
}

#[test]
fn what_is_sought_is_the_key_with_the_same_bytes_whatever_was_sought_before() {
    let base = plain(settings(1)[0], epochs()[0]);
    let mut room = Vec::new();
    for text in ["select a longer text than the others", "select 1", "select 2", ""] {
        let parts = Parts { text: text.as_bytes(), ..base };
        let sought = Sought::of(&parts, &mut room).unwrap();
        let (key, other) = (Key::of(&parts).unwrap(), Key::of(&Parts { text: b"select 3", ..base }).unwrap());
        assert!(sought.is(&key) && sought.to_key() == key);
        assert!(!sought.is(&other));
        let hashed = |value: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            value(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hashed(&|hasher| sought.hash(hasher)), hashed(&|hasher| key.hash(hasher)), "it would not be found");
    }
}

#[test]
fn what_is_too_long_has_no_key() {
    let base = Parts { text: b"", parameters: &[], ..plain(settings(1)[0], epochs()[0]) };
    let long = vec![b'x'; 65 * 1024];
    assert_eq!(Key::of(&Parts { text: &long, ..base }), Err(Bypass::KeyTooLong));
    let parameter = Parameter { format: 0, value: Some(&long) };
    assert_eq!(Key::of(&Parts { parameters: &[parameter], ..base }), Err(Bypass::KeyTooLong));
    let many = vec![0; 20_000];
    assert_eq!(Key::of(&Parts { relations: &many, ..base }), Err(Bypass::KeyTooLong));
}

fn plain(settings: SettingsId, epoch: Generation) -> Parts<'static> {
    Parts {
        epoch,
        tenant: "",
        place: "a:5432/app",
        prepared: None,
        database: "",
        text: b"select",
        protocol: Protocol::Simple,
        parameter_types: &[],
        parameters: &[],
        result_formats: &[],
        relations: &[],
        role: "",
        session_user: "",
        inputs: &[],
        settings,
        rule: (1, 0),
    }
}

/// Parts that own what they are made of. Pieces come from few letters, so that many lists differ only in where pieces end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    words: Vec<String>,
    place: String,
    prepared: (bool, u64, u64),
    types: Vec<u32>,
    parameters: Vec<(i16, Option<Vec<u8>>)>,
    formats: Vec<i16>,
    relations: Vec<u32>,
    inputs: Vec<(String, Option<String>)>,
    protocol: u64,
    settings: usize,
    rule: (u32, u16),
    epoch: usize,
}

impl Owned {
    fn random(random: &mut Random) -> Self {
        let word = |random: &mut Random| "ab".repeat(2)[..random.below(4) as usize].to_owned();
        Self {
            words: (0..5).map(|_| word(random)).collect(),
            place: word(random),
            prepared: match random.once_in(2) {
                true => (true, random.below(2), random.below(2)),
                false => (false, 0, 0),
            },
            types: (0..random.below(3)).map(|_| random.below(2) as u32).collect(),
            parameters: (0..random.below(3))
                .map(|_| (random.below(2) as i16, (!random.once_in(3)).then(|| word(random).into_bytes())))
                .collect(),
            formats: (0..random.below(3)).map(|_| random.below(2) as i16).collect(),
            relations: (0..random.below(3)).map(|_| random.below(2) as u32).collect(),
            inputs: (0..random.below(3)).map(|_| (word(random), (!random.once_in(3)).then(|| word(random)))).collect(),
            protocol: random.below(3),
            settings: random.below(2) as usize,
            rule: (random.below(2) as u32, random.below(2) as u16),
            epoch: random.below(2) as usize,
        }
    }

    fn key(&self, settings: &[SettingsId], epochs: &[Generation]) -> Key {
        let parameters: Vec<_> = self
            .parameters
            .iter()
            .map(|(format, value)| Parameter { format: *format, value: value.as_deref() })
            .collect();
        let inputs: Vec<_> = self.inputs.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let parts = Parts {
            epoch: epochs[self.epoch],
            tenant: &self.words[0],
            place: &self.place,
            prepared: self.prepared.0.then_some((self.prepared.1, self.prepared.2)),
            database: &self.words[1],
            text: self.words[2].as_bytes(),
            protocol: [
                Protocol::Simple,
                Protocol::Extended { described: false },
                Protocol::Extended { described: true },
            ][self.protocol as usize],
            parameter_types: &self.types,
            parameters: &parameters,
            result_formats: &self.formats,
            relations: &self.relations,
            role: &self.words[3],
            session_user: &self.words[4],
            inputs: &inputs,
            settings: settings[self.settings],
            rule: self.rule,
        };
        Key::of(&parts).unwrap()
    }
}

/// Reads a key back: what can be read back in one way only was not written by two.
struct Back<'a>(&'a [u8]);

impl Back<'_> {
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.to_vec()
    }

    fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }

    fn piece(&mut self) -> Vec<u8> {
        let length = self.number() as usize;
        self.bytes(length)
    }

    fn word(&mut self) -> String {
        String::from_utf8(self.piece()).unwrap()
    }

    fn option(&mut self) -> Option<Vec<u8>> {
        let some = self.bytes(1) == [1];
        let piece = self.piece();
        some.then_some(piece)
    }

    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.number()).map(|_| each(self)).collect()
    }

    fn short(&mut self) -> i16 {
        i16::from_le_bytes(self.bytes(2).try_into().unwrap())
    }

    fn oid(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }
}

#[test]
fn a_key_is_read_back_into_its_parts() {
    let (sets, epochs) = (settings(2), epochs());
    for seed in 0..20_000 {
        let parts = Owned::random(&mut Random::new(seed));
        let key = parts.key(&sets, &epochs);
        let mut back = Back(key.bytes());
        let epoch = back.number();
        let tenant = back.word();
        let place = back.word();
        let mut words = vec![tenant, back.word(), back.word()];
        let protocol = u64::from(back.bytes(1)[0]);
        let prepared = back.bytes(1) == [1];
        let prepared = (prepared, back.number(), back.number());
        let types = back.list(Back::oid);
        let parameters = back.list(|back| (back.short(), back.option()));
        let (formats, relations) = (back.list(Back::short), back.list(Back::oid));
        words.extend([back.word(), back.word()]);
        let inputs = back.list(|back| (back.word(), back.option().map(|value| String::from_utf8(value).unwrap())));
        let settings = back.number();
        let (rule, rest) = ((back.oid(), back.short() as u16), back.0.len());
        let read = Owned {
            words,
            place,
            prepared,
            types,
            parameters,
            formats,
            relations,
            inputs,
            protocol,
            settings: sets.iter().position(|id| id.number() == settings).unwrap(),
            rule,
            epoch: epochs.iter().position(|generation| generation.number() == epoch).unwrap(),
        };
        assert_eq!((read, rest), (parts, 0), "seed {seed}");
    }
}

#[test]
fn no_two_different_lists_of_parts_have_one_key() {
    let (sets, epochs) = (settings(2), epochs());
    let mut known: HashMap<Key, Owned> = HashMap::new();
    let mut again = 0;
    for seed in 0..20_000 {
        // Few choices, so that equal lists come as well.
        let mut random = Random::new(seed);
        let mut parts = Owned::random(&mut random);
        if seed % 2 == 0 {
            (parts.types, parts.relations, parts.formats, parts.inputs) = (vec![], vec![], vec![], vec![]);
            parts.parameters.truncate(1);
            parts.words[3..].iter_mut().for_each(String::clear);
        }
        let key = parts.key(&sets, &epochs);
        if let Some(other) = known.insert(key, parts.clone()) {
            assert_eq!(other, parts, "seed {seed}");
            again += 1;
        }
    }
    assert!(again > 100, "only {again} lists came twice");
}
