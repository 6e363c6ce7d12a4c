//! Those who are not of this run.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use super::*;

/// Anybody's connection.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn stranger(address: &Address) -> Box<dyn Stream> {
    match address {
        Address::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
        Address::Tcp(address) => Box::new(TcpStream::connect(address).unwrap()),
    }
}

/// Reads to the end of a connection.
fn rest(stream: &mut dyn Stream) -> Vec<u8> {
    let mut heard = Vec::new();
    // What was sent and not read makes it a reset.
    let _ = stream.read_to_end(&mut heard);
    heard
}

#[test]
fn strange_bytes_are_dropped() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        for bytes in [[0xff; 64].as_slice(), b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", &[48, 0, 1]] {
            let mut stranger = stranger(&watched.address);
            stranger.write_all(bytes).unwrap();
            drop(stranger);
        }
        let mut stranger = stranger(&watched.address);
        stranger.write_all(&[0xff; 64]).unwrap();
        assert!(rest(&mut *stranger).is_empty());
        let _rank = watched.rank(0);
        watched.assert_quiet();
    });
}

#[test]
fn another_runs_secret_and_none_are_told_apart() {
    let watched = Watched::start(Kind::Tcp);
    let address = &watched.address;
    let other = Secret::generate().unwrap();
    let error = Link::connect(address, Some(&other), hello(id(0, 0, 0))).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{address} has another secret than this process: it belongs to another run, or is no part \
             of any"
        )
    );
    let error = Link::connect(address, None, hello(id(0, 0, 0))).unwrap_err();
    assert_eq!(error.to_string(), format!("{address} can't be dialled without the run's secret"));
    watched.assert_quiet();
}

#[test]
fn somebody_slow_is_not_waited_for() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        let mut slow = stranger(&watched.address);
        let began = Instant::now();
        // The beginning of what is expected, a byte at a time.
        for byte in [48].into_iter().chain([0; 100]) {
            if slow.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(rest(&mut *slow).is_empty());
        let took = began.elapsed();
        assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(6), "{took:?}");
    });
}

#[test]
fn a_crowd_of_strangers_keeps_no_rank_away() {
    both_kinds(|kind| {
        let watched = Watched::start(kind);
        let crowd: Vec<_> = (0..2 * MOST_UNKNOWN).map(|_| stranger(&watched.address)).collect();
        let _rank = watched.rank(0);
        drop(crowd);
        watched.assert_quiet();
    });
}

#[test]
fn a_watcher_that_is_no_watcher_is_recognised() {
    let secret = Secret::generate().unwrap();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    for (answer, reason) in [
        (b"".as_slice(), "it ended the connection during the handshake"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what it sent is no handshake"),
    ] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 50]).unwrap();
                stream.write_all(answer).unwrap();
            });
            let error = Link::connect(&address, Some(&secret), hello(id(0, 0, 0))).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{address} was not recognised as a process of this run: {reason}")
            );
        });
    }
}

#[test]
fn a_byte_changed_on_the_way_ends_the_lifeline_and_is_its_fault() {
    let watched = Watched::start(Kind::Tcp);
    let Address::Tcp(far) = watched.address else { panic!() };
    let between = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = Address::Tcp(between.local_addr().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut near, _) = between.accept().unwrap();
            let mut far = TcpStream::connect(far).unwrap();
            let mut back = (far.try_clone().unwrap(), near.try_clone().unwrap());
            scope.spawn(move || {
                let _ = std::io::copy(&mut back.0, &mut back.1);
                back.1.shutdown(std::net::Shutdown::Both).unwrap();
            });
            // The handshake and the hello as they are.
            let mut bytes = [0; 4096];
            let mut passed = 0;
            while let Ok(len @ 1..) = near.read(&mut bytes) {
                if passed > 50 {
                    bytes[len - 1] ^= 1;
                }
                far.write_all(&bytes[..len]).unwrap();
                passed += len;
            }
        });
        let (link, mut reader) =
            Link::connect(&address, Some(&watched.secret), hello(id(0, 0, 0))).unwrap();
        assert!(matches!(watched.event(), Event::Hello { .. }));
        link.say(&FromRank::Alive { step: 1 }).unwrap();
        let Event::Closed { fault: Some(fault), .. } = watched.event() else { panic!() };
        assert!(fault.starts_with("record 1 of the stream is not genuine: "), "{fault}");
        assert_eq!(reader.hear(), None);
    });
}

#[test]
fn a_socket_of_the_dead_is_replaced_and_one_of_the_living_is_not() {
    let folder = private_folder();
    let path = folder.path().join("lifeline");
    // What a killed process leaves.
    drop(UnixListener::bind(&path).unwrap());
    let bind = || Listener::bind(&BindTo::Unix(path.clone()));
    let listener = bind().unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(bind(), Err(SocketError::InUse { .. })));
    drop(listener);
    assert!(!path.exists());

    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(folder.path(), open).unwrap();
    assert!(matches!(bind(), Err(SocketError::OpenFolder { mode: 0o711, .. })));
}

#[test]
fn addresses_that_nobody_could_dial_are_not_bound() {
    let secret = Secret::generate().unwrap();
    let bind = |host: &str| {
        let to = BindTo::Tcp { host: host.parse().unwrap(), secret: secret.clone() };
        Listener::bind(&to).unwrap_err().to_string()
    };
    for host in ["0.0.0.0", "::"] {
        assert!(bind(host).ends_with("peers need an address of one interface to dial"));
    }
    // Of documentation, so no machine's.
    assert!(bind("192.0.2.1").starts_with("can't listen on tcp:192.0.2.1:0: "));
}
