//! The file of a Unix socket: who may put it there, and who may take it away.
//!
//! | found at its place | done |
//! |---|---|
//! | nothing | ours is put there |
//! | a socket that nobody listens on: its process is dead | replaced |
//! | a socket that answers | left, and the start fails; with SO_REUSEPORT a process of the same user is succeeded |
//! | anything else | left, and the start fails |
//!
//! A socket listens and has its permissions before it gets its name, by a rename: no moment is there at which a client
//! finds no socket, one that refuses, or one that others may use. Whoever has connected to the old one is in its queue.
//! Two processes that look at the same time take turns, by a lock on the folder.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::UnixSocket;
use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;

/// The name in the socket's own folder that it has before it gets its own. Never longer than that.
const DRAFT: &str = ".pgweir";
/// Where the system keeps the names of its groups.
const GROUPS: &str = "/etc/group";
/// How often a lock is asked for that somebody else has.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// How often, when a socket is made: whoever has it holds it for less than a millisecond.
const TRIES_TO_MAKE: usize = 100;
/// How often, when a socket is taken away: what stays there stands in nobody's way.
const TRIES_TO_REMOVE: usize = 5;

/// A socket's file that this process has put there.
#[derive(Debug, Clone)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Listens at `path`. `shared`: a process of the same user that listens there is succeeded.
    pub(super) fn bind(path: &Path, access: &UnixSocket, shared: bool) -> io::Result<(UnixListener, Self)> {
        let folder = folder_of(path)?;
        let _lock = lock(folder, TRIES_TO_MAKE)?;
        check_place(path, shared)?;
        let draft = folder.join(DRAFT);
        let made = make(&draft, path, access);
        if made.is_err() {
            // It may not have come so far.
            drop(fs::remove_file(&draft));
        }
        made
    }

    /// Gives the file other permissions, if it still is ours.
    pub(crate) fn permit(&self, access: &UnixSocket) -> io::Result<()> {
        let _lock = lock(folder_of(&self.path)?, TRIES_TO_MAKE)?;
        if self.is_ours() { permit(&self.path, access) } else { Ok(()) }
    }

    /// Takes the file away, if it still is ours.
    pub(crate) fn remove(&self) {
        let removed = folder_of(&self.path).and_then(|folder| {
            let _lock = lock(folder, TRIES_TO_REMOVE)?;
            if self.is_ours() { fs::remove_file(&self.path) } else { Ok(()) }
        });
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays behind");
        }
    }

    /// A number of a file is not given to another one while our socket holds it.
    fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

fn folder_of(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::other("a socket needs a folder"))
}

/// Locks a folder until the file is dropped.
fn lock(folder: &Path, tries: usize) -> io::Result<File> {
    let file = File::open(folder)?;
    for _ in 0..tries {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOCK_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("another program keeps its folder locked"))
}

/// Whether a socket of ours may be put there.
fn check_place(path: &Path, shared: bool) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other("there is a file of this name that is no socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // Too many wait there already.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ if shared && is_sibling(&probe) && !is_a_servers(path) => Ok(()),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Whether the other end is a process of our user.
fn is_sibling(probe: &Socket) -> bool {
    let other = rustix::net::sockopt::socket_peercred(probe);
    other.is_ok_and(|other| other.uid == rustix::process::geteuid())
}

/// PostgreSQL keeps a lock beside its sockets.
fn is_a_servers(path: &Path) -> bool {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    Path::new(&lock).exists()
}

fn make(draft: &Path, path: &Path, access: &UnixSocket) -> io::Result<(UnixListener, SocketFile)> {
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(draft)?)?;
    permit(draft, access)?;
    socket.listen(BACKLOG)?;
    let made = fs::symlink_metadata(draft)?;
    fs::rename(draft, path)?;
    let file = SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() };
    Ok((socket.into(), file))
}

fn permit(path: &Path, access: &UnixSocket) -> io::Result<()> {
    if let Some(group) = &access.group {
        let groups = fs::read_to_string(GROUPS).unwrap_or_default();
        let number = number_of(group, &groups)
            .ok_or_else(|| io::Error::other(format!("unix_socket_group: there is no group {group}")))?;
        chown(path, None, Some(number))?;
    }
    fs::set_permissions(path, Permissions::from_mode(access.mode))
}

/// The number of a group that is called by its name or its number.
fn number_of(group: &str, groups: &str) -> Option<u32> {
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == group).then(|| fields.nth(1)?.parse().ok())?
    });
    named.or_else(|| group.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_go_by_name_or_number() {
        let groups = "root:x:0:\nbroken\napp:x:1000:anna,bob\n17:x:18:\n";
        assert_eq!(number_of("app", groups), Some(1000));
        assert_eq!(number_of("12", groups), Some(12));
        assert_eq!(number_of("17", groups), Some(18));
        assert_eq!(number_of("nobody", groups), None);
    }
}
