//! Peers: other servers to compare with, what each needs, and the command that starts it. `bench/peers` has their
//! programs, and `install.sh`, which installs their dependencies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::servers::{Server, which};
use crate::{Bench, Failure};

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/peers");

/// Where Debian puts the module.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// Whether a peer is installed.
///
/// # Errors
/// A line that says how to install it.
pub fn look(server: Server, folder: &Path) -> Result<(), String> {
    let needed: Vec<PathBuf> = match server {
        Server::Nchan => {
            let nginx = nginx().unwrap_or_else(|| "/usr/sbin/nginx".into());
            vec![nginx, NCHAN.into()]
        }
        Server::BetterSse | Server::SseChannel => {
            let node = which("node").unwrap_or_else(|| "node".into());
            let modules = Path::new(PEERS).join("node/node_modules");
            vec![node, modules.join(server.name()), modules.join("redis")]
        }
        Server::Axum => vec![axum(folder)],
        Server::Starlette => vec![python(folder)],
        Server::Floor | Server::Redis | Server::Demo => Vec::new(),
    };
    match needed.iter().find(|path| !path.exists()) {
        Some(path) => Err(format!(
            "{} is missing: bench/peers/install.sh",
            path.display()
        )),
        None => Ok(()),
    }
}

/// The command that starts a peer at this address.
///
/// # Errors
/// Where there is no Redis for it, or its configuration cannot be written.
pub fn command(server: Server, bench: &Bench, address: SocketAddr) -> Result<Command, Failure> {
    let mut command = match server {
        Server::Nchan => {
            let file = bench.folder.join("nginx.conf");
            std::fs::write(&file, nginx_conf(address, &bench.folder))?;
            let mut command = Command::new(nginx().ok_or("there is no nginx here")?);
            command.arg("-c").arg(file).arg("-p").arg(&bench.folder);
            return Ok(command);
        }
        Server::BetterSse | Server::SseChannel => {
            let mut command = Command::new("node");
            command.arg(format!("{PEERS}/node/server.mjs"));
            command.arg(server.name());
            command.env("NODE_ENV", "production");
            command
        }
        Server::Axum => Command::new(axum(&bench.folder)),
        Server::Starlette => {
            let mut command = Command::new(python(&bench.folder));
            command.arg(format!("{PEERS}/python/server.py"));
            command
        }
        Server::Floor | Server::Redis | Server::Demo => return Err("this is no peer".into()),
    };
    let redis = bench.redis()?.address();
    command.arg(address.port().to_string());
    command.arg(format!("redis://{redis}"));
    Ok(command)
}

/// Debian puts it where the `PATH` of ordinary users does not lead.
fn nginx() -> Option<PathBuf> {
    let usual = PathBuf::from("/usr/sbin/nginx");
    which("nginx").or_else(|| usual.exists().then_some(usual))
}

fn axum(folder: &Path) -> PathBuf {
    folder.join("peers/axum/release/axum-peer")
}

fn python(folder: &Path) -> PathBuf {
    folder.join("peers/python/bin/python")
}

/// One process, as there is one core; nothing is written for each request.
fn nginx_conf(address: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"load_module {NCHAN};
daemon off;
master_process off;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log error;
events {{
    worker_connections 19000;
    multi_accept on;
}}
http {{
    access_log off;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    nchan_shared_memory_size 256M;
    server {{
        nchan_eventsource_ping_interval 55;
        listen {address} backlog=4096;
        location ~ ^/pub/(.+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
            nchan_message_buffer_length 1000;
            nchan_message_timeout 30s;
        }}
        location ~ ^/subscribe/details/(.+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
        }}
        location ~ ^/subscribe/(.+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"#
    )
}
