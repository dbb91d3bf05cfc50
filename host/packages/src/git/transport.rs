//! Transports to a repository. Names are resolved and vetted before any contact, and only vetted addresses are dialled,
//! by the gate for HTTPS and by this module for the other transports. Local paths are not supported.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use gix::protocol::transport::Protocol;
use gix_transport::client::blocking_io::Transport;
use gix_transport::client::git::ConnectMode;
use gix_transport::client::git::blocking_io::Connection;
use konnector_manifest::GitTransport;
use tokio::runtime::Handle;
use url::Url;

use super::super::download::MAX_ARCHIVE_SIZE;
use super::FETCH_TIMEOUT;
use super::http::GateHttp;
use crate::Konnectors;

/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The port of git's own protocol.
const GIT_PORT: u16 = 9418;
/// The port of SSH.
const SSH_PORT: u16 = 22;

/// The address of and the transport to one repository.
pub(super) enum GitRemote {
    /// Git's own protocol.
    Daemon { url: Url, addresses: Vec<SocketAddr> },
    /// HTTPS, through the gate.
    Https { url: Url, http: GateHttp },
    /// The system's ssh program, which has the keys and known hosts.
    Ssh { url: Url, addresses: Vec<SocketAddr>, program: PathBuf },
}

impl Konnectors {
    /// Resolves and vets the host of a repository.
    pub(super) async fn resolve_git_remote(&self, transport: GitTransport, url: &Url) -> Result<GitRemote, String> {
        let vetted = async |port: u16| {
            let (host, port) = (url.host_str().unwrap_or_default(), url.port().unwrap_or(port));
            self.context.state.gate.resolve(host, port).await.map_err(|error| error.to_string())
        };
        let url = url.clone();
        Ok(match transport {
            GitTransport::Git => GitRemote::Daemon { addresses: vetted(GIT_PORT).await?, url },
            GitTransport::Https => {
                let http = GateHttp::new(self.http_session(MAX_ARCHIVE_SIZE), Handle::current());
                GitRemote::Https { url, http }
            }
            GitTransport::Ssh => GitRemote::Ssh {
                addresses: vetted(SSH_PORT).await?,
                url,
                program: self.context.state.settings.ssh_program.clone(),
            },
        })
    }
}

impl GitRemote {
    pub(super) fn url(&self) -> &str {
        match self {
            Self::Daemon { url, .. } | Self::Https { url, .. } | Self::Ssh { url, .. } => url.as_str(),
        }
    }

    /// Opens a new connection. Blocks.
    pub(super) fn connect(&self) -> Result<Box<dyn Transport + Send>, String> {
        match self {
            Self::Daemon { url, addresses } => connect_daemon(url, addresses).map_err(|error| error.to_string()),
            Self::Https { url, http } => {
                let address = gix::url::parse(url.as_str()).map_err(|error| error.to_string())?;
                Ok(Box::new(gix_transport::client::blocking_io::http::Transport::new_http(
                    http.clone(),
                    address,
                    Protocol::V2,
                    false,
                )))
            }
            Self::Ssh { url, addresses, program } => {
                connect_ssh(url, addresses, program).map_err(|error| error.to_string())
            }
        }
    }
}

fn connect_daemon(url: &Url, addresses: &[SocketAddr]) -> io::Result<Box<dyn Transport + Send>> {
    let mut stream = Err(io::Error::other("its host has no address"));
    for address in addresses {
        stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT);
        if stream.is_ok() {
            break;
        }
    }
    let stream = stream?;
    stream.set_write_timeout(Some(FETCH_TIMEOUT))?;
    // A server that stops sending must not block the thread.
    stream.set_read_timeout(Some(FETCH_TIMEOUT))?;
    let host = (url.host_str().unwrap_or_default().to_owned(), url.port());
    let (read, write) = (BoundedReader::new(stream.try_clone()?), stream);
    Ok(Box::new(Connection::new(read, write, Protocol::V2, url.path(), Some(host), ConnectMode::Daemon, false)))
}

fn connect_ssh(url: &Url, addresses: &[SocketAddr], program: &PathBuf) -> io::Result<Box<dyn Transport + Send>> {
    let address = addresses.first().ok_or_else(|| io::Error::other("its host has no address"))?;
    let host = url.host_str().unwrap_or_default();
    let known_as = match url.port() {
        Some(port) if port != SSH_PORT => format!("[{host}]:{port}"),
        _ => host.to_owned(),
    };
    let user = url.username();
    let path = url.path();
    // These are passed to the remote shell by ssh.
    if user.starts_with('-') || path.contains(['\'', '\\', '\n', '\0']) {
        return Err(io::Error::other("its URL has characters that are not allowed in a user name or path"));
    }
    let mut child = Command::new(program)
        .args(["-o", "BatchMode=yes", "-o", "SendEnv=GIT_PROTOCOL"])
        .args(["-o", &format!("ConnectTimeout={}", CONNECT_TIMEOUT.as_secs())])
        // The vetted address is dialled; host keys are looked up by the host's name.
        .args(["-o", &format!("HostName={}", address.ip()), "-o", &format!("HostKeyAlias={known_as}")])
        .args(["-p", &address.port().to_string()])
        .arg(if user.is_empty() { host.to_owned() } else { format!("{user}@{host}") })
        .arg(format!("git-upload-pack '{path}'"))
        .env("GIT_PROTOCOL", "version=2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| io::Error::other(format!("{} cannot be started: {error}", program.display())))?;
    let (Some(write), Some(read)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the input and output of ssh are not available"));
    };
    let read = BoundedReader::new(SshOutput::with_watchdog(child, read));
    Ok(Box::new(Connection::new(read, write, Protocol::V2, path, None::<(String, _)>, ConnectMode::Process, false)))
}

/// Output of a program that is killed when this is dropped, and after [`FETCH_TIMEOUT`].
struct SshOutput {
    output: ChildStdout,
    /// Dropped with the program, which makes its watchdog end it.
    _alive: std::sync::mpsc::Sender<()>,
}

impl SshOutput {
    fn with_watchdog(mut child: Child, output: ChildStdout) -> Self {
        let (alive, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Nothing is ever sent, so either the sender was dropped or the timeout has passed.
            let _ = ended.recv_timeout(FETCH_TIMEOUT);
            // It may already have exited.
            drop(child.kill());
            drop(child.wait());
        });
        Self { output, _alive: alive }
    }
}

impl Read for SshOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.read(buffer)
    }
}

/// A server's response, limited in bytes and by a deadline.
struct BoundedReader<R> {
    inner: R,
    remaining: u64,
    deadline: Instant,
}

impl<R> BoundedReader<R> {
    fn new(inner: R) -> Self {
        Self { inner, remaining: MAX_ARCHIVE_SIZE, deadline: Instant::now() + FETCH_TIMEOUT }
    }
}

impl<R: Read> Read for BoundedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the server sends too slowly"));
        }
        let read = self.inner.read(buffer)?;
        self.remaining = self.remaining.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!(
                "it is larger than {MAX_ARCHIVE_SIZE} bytes; keep the bundle in a branch of its own"
            ))
        })?;
        Ok(read)
    }
}
