// An interop client on grpc-js: grpc-node's own is not published as a package.
// The cases are those of gRPC's test descriptions:
// https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
//
//   node interop.js ADDRESS DESCRIPTORS CASE
//
// DESCRIPTORS is a file with the FileDescriptorSet of grpc.testing.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const [address, descriptors, name] = process.argv.slice(2);
const { testing } = grpc.loadPackageDefinition(
  protoLoader.loadFileDescriptorSetFromBuffer(readFileSync(descriptors))).grpc;
const credentials = grpc.credentials.createInsecure();
const client = new testing.TestService(address, credentials);
const { status } = grpc;

const sent = [27182, 8, 1828, 45904];
const wanted = [31415, 9, 2653, 58979];
const payload = (size) => ({ body: Buffer.alloc(size) });
const exchange = (i) => ({ response_parameters: [{ size: wanted[i] }], payload: payload(sent[i]) });
const large = { response_size: 314159, payload: payload(271828) };

// unary calls and collects all that comes back.
function unary(method, request, metadata = new grpc.Metadata(), target = client) {
  return new Promise((resolve) => {
    const out = {};
    const call = target[method](request, metadata, (error, response) => Object.assign(out, { error, response }));
    call.on('metadata', (md) => { out.headers = md; });
    call.on('status', (st) => { out.status = st; setImmediate(resolve, out); }); // after the callback
  });
}

// finished collects what a stream brings until its status.
function finished(call, onMessage = () => {}) {
  return new Promise((resolve) => {
    const out = { messages: [] };
    call.on('metadata', (md) => { out.headers = md; });
    call.on('data', (m) => { out.messages.push(m); onMessage(out.messages.length); });
    call.on('error', () => {}); // the status tells
    call.on('status', (st) => { out.status = st; setImmediate(resolve, out); });
  });
}

const sizes = (out) => out.messages.map((m) => m.payload.body.length);

const cases = {
  async empty_unary() {
    const out = await unary('emptyCall', {});
    assert.equal(out.error, null);
  },
  async large_unary() {
    const out = await unary('unaryCall', large);
    assert.equal(out.error, null);
    assert.equal(out.response.payload.body.length, 314159);
    assert.ok(out.response.payload.body.every((b) => b === 0));
  },
  async concurrent_large_unary() {
    const all = await Promise.all(Array.from({ length: 200 }, () => unary('unaryCall', large)));
    for (const out of all) {
      assert.equal(out.error, null);
      assert.equal(out.response.payload.body.length, 314159);
    }
  },
  async client_streaming() {
    const response = await new Promise((resolve, reject) => {
      const call = client.streamingInputCall((err, resp) => (err ? reject(err) : resolve(resp)));
      sent.forEach((size) => call.write({ payload: payload(size) }));
      call.end();
    });
    assert.equal(response.aggregated_payload_size, 74922);
  },
  async server_streaming() {
    const out = await finished(client.streamingOutputCall({ response_parameters: wanted.map((size) => ({ size })) }));
    assert.equal(out.status.code, status.OK);
    assert.deepEqual(sizes(out), wanted);
  },
  async ping_pong() {
    const call = client.fullDuplexCall();
    call.write(exchange(0));
    const out = await finished(call, (n) => (n < wanted.length ? call.write(exchange(n)) : call.end()));
    assert.equal(out.status.code, status.OK);
    assert.deepEqual(sizes(out), wanted);
  },
  async empty_stream() {
    const call = client.fullDuplexCall();
    call.end();
    const out = await finished(call);
    assert.equal(out.status.code, status.OK);
    assert.deepEqual(out.messages, []);
  },
  async timeout_on_sleeping_server() {
    const call = client.fullDuplexCall({ deadline: Date.now() + 1 });
    call.write({ payload: payload(27182) });
    assert.equal((await finished(call)).status.code, status.DEADLINE_EXCEEDED);
  },
  // The deadline passes while the server sleeps: it answers after a second.
  async timeout_of_server() {
    const call = client.fullDuplexCall({ deadline: Date.now() + 300 });
    call.write({ response_parameters: [{ size: 1, interval_us: 1e6 }], payload: payload(1) });
    assert.equal((await finished(call)).status.code, status.DEADLINE_EXCEEDED);
  },
  async cancel_after_begin() {
    const error = await new Promise((resolve) => {
      client.streamingInputCall((err) => resolve(err)).cancel();
    });
    assert.equal(error.code, status.CANCELLED);
  },
  async cancel_after_first_response() {
    const call = client.fullDuplexCall();
    call.write(exchange(0));
    const out = await finished(call, () => call.cancel());
    assert.equal(out.status.code, status.CANCELLED);
    assert.deepEqual(sizes(out), [31415]);
  },
  async status_code_and_message() {
    const request = { response_status: { code: 2, message: 'test status message' } };
    const call = client.fullDuplexCall();
    call.write(request);
    call.end();
    for (const out of await Promise.all([unary('unaryCall', request), finished(call)])) {
      assert.equal(out.status.code, status.UNKNOWN);
      assert.equal(out.status.details, 'test status message');
    }
  },
  async special_status_message() {
    const message = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
    const out = await unary('unaryCall', { response_status: { code: 2, message } });
    assert.equal(out.status.code, status.UNKNOWN);
    assert.equal(out.status.details, message);
  },
  async custom_metadata() {
    const metadata = new grpc.Metadata();
    metadata.set('x-grpc-test-echo-initial', 'test_initial_metadata_value');
    metadata.set('x-grpc-test-echo-trailing-bin', Buffer.from('ababab', 'hex'));
    const call = client.fullDuplexCall(metadata);
    call.write({ response_parameters: [{ size: 314159 }], payload: payload(271828) });
    call.end();
    for (const out of await Promise.all([unary('unaryCall', large, metadata), finished(call)])) {
      assert.equal(out.status.code, status.OK);
      assert.deepEqual(out.headers.get('x-grpc-test-echo-initial'), ['test_initial_metadata_value']);
      assert.deepEqual(out.status.metadata.get('x-grpc-test-echo-trailing-bin'), [Buffer.from('ababab', 'hex')]);
    }
  },
  async unimplemented_method() {
    assert.equal((await unary('unimplementedCall', {})).error.code, status.UNIMPLEMENTED);
  },
  async unimplemented_service() {
    const other = new testing.UnimplementedService(address, credentials);
    const out = await unary('unimplementedCall', {}, new grpc.Metadata(), other);
    other.close();
    assert.equal(out.error.code, status.UNIMPLEMENTED);
  },
};

if (name === 'list') {
  console.log(Object.keys(cases).join('\n'));
} else {
  await cases[name]();
}
client.close();
