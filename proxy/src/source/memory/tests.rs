//! Folders of tenants as they change.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgweir-memory-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file that has not been touched for an hour, as far as its own time goes.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn names(memory: &Memory, folder: &Folder) -> Vec<String> {
    memory.tenants(&folder.0).unwrap().into_iter().map(|(name, _)| name).collect()
}

/// Files become settled by themselves, a second after they were written.
fn settle() {
    std::thread::sleep(TICK + Duration::from_millis(50));
}

#[test]
fn only_what_has_changed_is_read_again() {
    let folder = Folder::new("incremental");
    for number in 0..200 {
        folder.write(&format!("t{number:03}.toml"), "max_clients = 1\n");
    }
    let memory = Memory::default();
    settle();
    assert_eq!(names(&memory, &folder).len(), 200);
    assert_eq!(memory.reads(), 200);
    assert_eq!(names(&memory, &folder).len(), 200);
    assert_eq!(memory.reads(), 200, "nothing has changed, and all was old enough to tell");
    folder.write("t007.toml", "max_clients = 2\n");
    fs::remove_file(folder.0.join("t008.toml")).unwrap();
    let all = memory.tenants(&folder.0).unwrap();
    assert_eq!(memory.reads(), 201);
    assert_eq!((all.len(), all[7].1.as_str()), (199, "max_clients = 2\n"));
    // Of the same length, and perhaps within the same tick: it is read again as long as that cannot be told.
    folder.write("t007.toml", "max_clients = 3\n");
    assert_eq!(memory.tenants(&folder.0).unwrap()[7].1, "max_clients = 3\n");
}

#[test]
fn a_stamp_is_believed_when_it_is_older_than_a_tick() {
    let now = UNIX_EPOCH + Duration::from_secs(1_000);
    let stamp = |changed| Stamp { modified: (10, 0), changed, length: 1, inode: 1 };
    assert!(stamp((998, 999_999_999)).is_settled(now));
    assert!(!stamp((999, 0)).is_settled(now), "just a tick");
    assert!(!stamp((2_000, 0)).is_settled(now), "from the future");
    assert!(stamp((-5, 0)).is_settled(now));
    assert!(SystemTime::now() > now);
}

#[test]
fn other_names_are_passed_over_and_links_are_followed() {
    let folder = Folder::new("names");
    for name in ["b.toml", "a.toml", "c.txt", "d.toml~", ".e.toml", ".toml", "README"] {
        folder.write(name, "");
    }
    fs::create_dir(folder.0.join("f.toml")).unwrap();
    symlink("c.txt", folder.0.join("g.toml")).unwrap();
    symlink("nowhere", folder.0.join("h.toml")).unwrap();
    assert_eq!(names(&Memory::default(), &folder), ["a", "b", "g"]);
}

#[test]
fn a_file_that_is_too_large_or_no_text_is_named() {
    let folder = Folder::new("wrong");
    folder.write("a.toml", &"#".repeat(64 << 10));
    let memory = Memory::default();
    assert_eq!(names(&memory, &folder), ["a"]);
    folder.write("b.toml", &"#".repeat((64 << 10) + 1));
    assert_eq!(memory.tenants(&folder.0).unwrap_err(), "b.toml: it is larger than 64 KiB");
    fs::write(folder.0.join("b.toml"), [0xff]).unwrap();
    assert_eq!(memory.tenants(&folder.0).unwrap_err(), "b.toml: it is not UTF-8 text");
    // What was refused is looked at as it was: nothing has changed since.
    assert_eq!(memory.changed(), None);
    assert!(memory.tenants(&folder.0.join("none")).is_err());
}

#[test]
fn a_file_that_comes_changes_or_goes_is_a_change() {
    let folder = Folder::new("look");
    folder.write("pgweir.conf", "text");
    folder.write("a.toml", "");
    let memory = Memory::default();
    memory.begin();
    memory.read(&folder.0.join("pgweir.conf"), 100).unwrap();
    assert!(memory.read(&folder.0.join("secret"), 100).is_err());
    memory.tenants(&folder.0).unwrap();
    assert_eq!(memory.changed(), None);
    type Change = fn(&Folder);
    let changes: [Change; 5] = [
        |folder| folder.write("b.toml", ""),
        |folder| folder.write("a.toml", "max_clients = 1"),
        |folder| folder.write("secret", "here now"),
        |folder| folder.write("pgweir.conf", "longer text"),
        |folder| fs::remove_file(folder.0.join("b.toml")).unwrap(),
    ];
    for change in changes {
        change(&folder);
        let now = memory.changed().expect("a change");
        assert_eq!(memory.changed(), Some(now), "and it stays the same until the next");
        memory.begin();
        for name in ["pgweir.conf", "secret"] {
            drop(memory.read(&folder.0.join(name), 100));
        }
        memory.tenants(&folder.0).unwrap();
        assert_eq!(memory.changed(), None);
    }
    // What nobody has read is nobody's business.
    folder.write("other.txt", "");
    assert_eq!(memory.changed(), None);
}
