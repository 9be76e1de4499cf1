// nginx as Debian packages it, in front of the server as pages of cyclone-sse have it: streams are at /sse/, and
// whatever stands behind that is the root of the server.

import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { until } from '../spec/clients.mjs';
import { Child, freePort, removeDirectory, temporaryDirectory } from '../spec/servers.mjs';

export class Nginx {
  static async start(server) {
    const nginx = new Nginx();
    nginx.directory = temporaryDirectory();
    nginx.port = await freePort();
    const file = join(nginx.directory, 'nginx.conf');
    writeFileSync(file, configuration(nginx.port, server));
    // Debian installs it where the PATH of ordinary users does not lead. Before the configuration is read it
    // would complain in a log that is not ours.
    const PATH = `${process.env.PATH}:/usr/sbin`;
    nginx.child = new Child('nginx', ['-p', nginx.directory, '-c', file, '-e', 'stderr'], { PATH });
    const isUp = async () => nginx.child.hasEnded || (await nginx.listens());
    await until(isUp, 'nginx listens');
    if (nginx.child.hasEnded) {
      throw new Error(`nginx does not start:\n${nginx.child.lines.join('\n')}`);
    }
    return nginx;
  }

  listens() {
    return new Promise((resolve) => {
      const socket = net.connect(this.port, '127.0.0.1', () => resolve(true));
      socket.on('connect', () => socket.destroy());
      socket.on('error', () => resolve(false));
    });
  }

  url(path) {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  async stop() {
    await this.child.end();
    removeDirectory(this.directory);
  }
}

/**
 * All that any user needs to run it beside any other. It is one process, so that none stays behind. That a
 * connection was cut off is no news here.
 */
function configuration(port, server) {
  return `
    daemon off;
    master_process off;
    pid nginx.pid;
    error_log stderr crit;
    events { worker_connections 256; }
    http {
      access_log off;
      client_body_temp_path body;
      proxy_temp_path proxy;
      fastcgi_temp_path fastcgi;
      uwsgi_temp_path uwsgi;
      scgi_temp_path scgi;
      server {
        listen 127.0.0.1:${port};
        location /sse/ {
          rewrite ^(.*)$ / break;
          proxy_pass ${server};
        }
        location /publish {
          proxy_pass ${server};
        }
        location /blank {
          default_type text/html;
          return 200 '<!DOCTYPE html><html lang="en"><link rel="icon" href="data:,"><title>blank</title>';
        }
      }
    }`;
}
