//! What large results cost: a gigabyte by COPY, and a gigabyte of wide rows.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Outcome;
use super::machine::processor_time;
use super::ways::Way;
use crate::{Child, frontend};

/// Bytes of each flow.
pub const BYTES: u64 = 1 << 30;

/// A flow from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// COPY … TO STDOUT of rows of 1 KiB.
    Copy,
    /// A SELECT of rows of 64 KiB.
    Rows,
}

impl Flow {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Copy, Self::Rows];

    /// As the table says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "COPY TO STDOUT, rows of 1 KiB",
            Self::Rows => "SELECT, rows of 64 KiB",
        }
    }

    fn sql(self) -> String {
        let (row, rows) = match self {
            Self::Copy => (1 << 10, BYTES >> 10),
            Self::Rows => (1 << 16, BYTES >> 16),
        };
        let select = format!("SELECT repeat('x', {row}) FROM generate_series(1, {rows})");
        if self == Self::Copy { format!("COPY ({select}) TO STDOUT") } else { select }
    }
}

/// What was seen of one way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bulk {
    /// Bytes a second that reached the client.
    pub bytes_per_second: f64,
    /// Processor time of the pooler for each MiB, in µs.
    pub cpu_micros: f64,
    /// By how much the pooler's peak of resident memory rose, in bytes.
    pub growth: u64,
}

/// Has one flow come over a way.
pub fn measure(way: &Way, flow: Flow) -> Outcome<Bulk> {
    let mut socket = logged_in(way)?;
    let pooler = way.pooler();
    let resident = pooler.map_or(0, Child::reset_peak);
    let worked = |pooler: Option<&Child>| pooler.map_or(Duration::ZERO, |pooler| processor_time(pooler.pid()));
    let (before, begun) = (worked(pooler), Instant::now());
    socket.write_all(&frontend::query(flow.sql()))?;
    let bytes = read_to_ready(&mut socket)?;
    let seconds = begun.elapsed().as_secs_f64();
    if bytes < BYTES {
        return Err(format!("{}: only {bytes} bytes came of {}", way.name, flow.name()).into());
    }
    let spent = worked(pooler).saturating_sub(before);
    Ok(Bulk {
        bytes_per_second: bytes as f64 / seconds,
        cpu_micros: spent.as_secs_f64() * 1e6 / (bytes as f64 / f64::from(1 << 20)),
        growth: 1024 * pooler.map_or(0, Child::peak_resident_kib).saturating_sub(resident),
    })
}

fn logged_in(way: &Way) -> Outcome<TcpStream> {
    let (database, user) = way.login();
    let mut socket = TcpStream::connect(way.address())?;
    socket.set_nodelay(true)?;
    socket.write_all(&frontend::startup(0x0003_0000, &[("user", user), ("database", database)]))?;
    read_to_ready(&mut socket)?;
    Ok(socket)
}

/// Reads messages up to ReadyForQuery by their lengths alone; gives the number of bytes.
fn read_to_ready(socket: &mut TcpStream) -> Outcome<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let (mut total, mut skip, mut head) = (0_u64, 0_usize, Vec::with_capacity(5));
    loop {
        let read = socket.read(&mut buffer)?;
        if read == 0 {
            return Err("the connection was closed in the middle of a result".into());
        }
        total += read as u64;
        let mut rest = buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            let passed = skip.min(rest.len());
            skip -= passed;
            rest = rest.get(passed..).unwrap_or_default();
            let missing = 5_usize.saturating_sub(head.len()).min(rest.len());
            if skip > 0 || rest.is_empty() {
                continue;
            }
            head.extend_from_slice(rest.get(..missing).unwrap_or_default());
            rest = rest.get(missing..).unwrap_or_default();
            if let [tag, a, b, c, d] = *head.as_slice() {
                match tag {
                    b'Z' => return Ok(total),
                    b'E' => return Err("the server reported an error".into()),
                    _ => {}
                }
                skip = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                head.clear();
            }
        }
    }
}
