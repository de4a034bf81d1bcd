// Loaded before an example of the official Node SDK (node -r): sends it to the sandbox, and takes a
// free port for the one that listens. MIDAS_SDK is the folder of the package, MIDAS_SANDBOX_PORT the
// sandbox's port.
'use strict';

const path = require('path');
const net = require('net');
const http = require('http');

const Pingpp = require(path.join(process.env.MIDAS_SDK, 'lib', 'pingpp.js'));
const setApiKey = Pingpp.prototype.setApiKey;
Pingpp.prototype.setApiKey = function (key) {
  this.setHost('127.0.0.1', process.env.MIDAS_SANDBOX_PORT, 'http');
  setApiKey.call(this, key);
};

const listen = net.Server.prototype.listen;
http.Server.prototype.listen = function (port, host) {
  return listen.call(this, 0, host, () => console.log('listening ' + this.address().port));
};
