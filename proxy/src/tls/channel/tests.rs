//! Two channels in memory, joined by bytes cut at every place.

use config::{Authorities, ClientTls, Identity, PemFile, Secret, TlsMode, TlsVersion, UpstreamTls};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;

use super::*;
use crate::tls::clients::Clients;
use crate::tls::servers::client_config;

fn identity() -> Identity {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let chain = PemFile { path: "own.crt".to_owned(), text: cert.pem().into() };
    Identity { chain, key_path: "own.key".to_owned(), key: Secret::new(key.serialize_pem()) }
}

/// A client's and a server's side before their handshake.
fn sides(min_version: TlsVersion, other_authority: bool) -> (Channel, Channel) {
    let own = identity();
    let trusted = if other_authority { identity().chain } else { own.chain.clone() };
    let tls = ClientTls { mode: TlsMode::Require, identity: Some(own), min_version, ..ClientTls::default() };
    let server = UnbufferedServerConnection::new(Clients::new(&tls).unwrap().config().unwrap()).unwrap();
    let tls = UpstreamTls {
        mode: TlsMode::VerifyFull,
        authorities: Some(Authorities::File(trusted)),
        min_version,
        ..UpstreamTls::default()
    };
    let name = ServerName::try_from("localhost").unwrap();
    let client = UnbufferedClientConnection::new(client_config(&tls).unwrap(), name).unwrap();
    (Channel::client(client), Channel::server(server))
}

/// Carries what one side has to send to the other, at most `piece` bytes at once.
fn carry(from: &mut Channel, to: &mut Channel, piece: usize) -> io::Result<()> {
    while !from.unsent().is_empty() {
        let bytes = from.unsent();
        let bytes = bytes[..piece.min(bytes.len())].to_vec();
        from.sent(bytes.len());
        to.incoming().extend_from_slice(&bytes);
        to.progress()?;
    }
    Ok(())
}

fn shake_hands(client: &mut Channel, server: &mut Channel, piece: usize) -> io::Result<()> {
    for _ in 0..10 {
        client.progress()?;
        carry(client, server, piece)?;
        carry(server, client, piece)?;
        if !client.state().is_handshaking() && !server.state().is_handshaking() {
            return Ok(());
        }
    }
    panic!("a handshake takes fewer flights");
}

#[test]
fn what_one_side_encrypts_the_other_reads_however_it_is_cut() {
    for piece in [1, 7, 100, 20_000] {
        let (mut client, mut server) = sides(TlsVersion::V1_2, false);
        shake_hands(&mut client, &mut server, piece).unwrap();
        let text: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
        let (mut read, mut at) = (Vec::new(), 0);
        while at < text.len() {
            client.encrypt(&text[at..]).unwrap();
            at += client.promised();
            while !client.unsent().is_empty() {
                let bytes = client.unsent()[..piece.min(client.unsent().len())].to_vec();
                client.sent(bytes.len());
                server.incoming().extend_from_slice(&bytes);
                let mut space = [0; 300];
                let mut fresh = server.read(&mut space).unwrap();
                while fresh > 0 {
                    read.extend_from_slice(&space[..fresh]);
                    fresh = server.take(&mut space);
                }
            }
            client.keep_promise();
        }
        assert!(read == text, "in pieces of {piece}");
        let kept = server.incoming.capacity() + server.plain.capacity() + client.outgoing.capacity();
        assert_eq!(kept, 0, "an idle connection keeps no buffer");
    }
}

#[test]
fn a_goodbye_is_an_end_and_its_absence_is_not() {
    let (mut client, mut server) = sides(TlsVersion::V1_3, false);
    shake_hands(&mut client, &mut server, 4096).unwrap();
    client.encrypt(b"last").unwrap();
    client.say_goodbye().unwrap();
    client.say_goodbye().unwrap();
    let bytes = client.unsent().to_vec();
    server.incoming().extend_from_slice(&bytes);
    let mut space = [0; 16];
    assert_eq!(server.read(&mut space).unwrap(), 4);
    assert!(server.is_closed());
    assert!(!client.is_closed());
}

#[test]
fn a_failure_is_told_once_and_ends_everything() {
    let (mut client, mut server) = sides(TlsVersion::V1_3, false);
    shake_hands(&mut client, &mut server, 4096).unwrap();
    client.encrypt(b"hello").unwrap();
    let mut bytes = client.unsent().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    server.incoming().extend_from_slice(&bytes);
    assert!(server.read(&mut [0; 16]).is_err());
    assert!(!server.unsent().is_empty(), "an alert");
    let told = server.unsent().len();
    server.incoming().extend_from_slice(&bytes);
    assert!(server.read(&mut [0; 16]).is_err() && server.encrypt(b"more").is_err());
    assert_eq!(server.unsent().len(), told);
}

#[test]
fn a_server_that_is_not_believed_hears_of_it() {
    let (mut client, mut server) = sides(TlsVersion::V1_3, true);
    let refused = shake_hands(&mut client, &mut server, 4096).unwrap_err();
    assert!(refused.to_string().contains("invalid peer certificate"), "{refused}");
    assert!(!client.unsent().is_empty());
}

#[test]
fn what_is_not_tls_is_refused_at_once() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 0], &[0x15, 3, 3, 0, 2, 2, 40]] {
        let (_, mut server) = sides(TlsVersion::V1_2, false);
        server.incoming().extend_from_slice(bytes);
        assert!(server.progress().is_err(), "{bytes:?}");
    }
}

/// What an idle client costs beside its socket; the heap behind it is measured in the benchmarks.
#[test]
fn a_channel_is_small() {
    assert!(size_of::<Channel>() < 2048, "{} bytes", size_of::<Channel>());
}
