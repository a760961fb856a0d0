// Two tenants use a real gateway with what buf generated, and nothing else of this project.
//
// tests/integration/test_ts_client.py generates gen/ and sets the variables. All of it is run three
// times: by gRPC, and by Connect and gRPC-Web over HTTP/1.1, as browsers do.

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";

import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { ScriptService } from "./gen/llmspell/v1/script_pb.js";
import { StateService } from "./gen/llmspell/v1/state_pb.js";
import { VectorService } from "./gen/llmspell/v1/vector_pb.js";

const environment = (name: string): string => process.env[name] ?? "";
const grpc = `http://${environment("LLMSPELL_ADDRESS")}`;
const http = `http://${environment("LLMSPELL_HTTP_ADDRESS")}`;
const keys: Record<string, string> = {
  acme: environment("LLMSPELL_KEY_ACME"),
  globex: environment("LLMSPELL_KEY_GLOBEX"),
};
const transports: Record<string, Transport> = {
  grpc: createGrpcTransport({ baseUrl: grpc }),
  "connect-json": createConnectTransport({ baseUrl: http, httpVersion: "1.1" }),
  "connect-binary": createConnectTransport({
    baseUrl: http,
    httpVersion: "1.1",
    useBinaryFormat: true,
  }),
  "grpc-web": createGrpcWebTransport({ baseUrl: http, httpVersion: "1.1" }),
};

const as = (key: string, more: Record<string, string> = {}) => ({
  headers: { authorization: `Bearer ${key}`, ...more },
  timeoutMs: 10_000,
});

const vector = (...numbers: number[]) => ({
  f32: new Uint8Array(new Float32Array(numbers).buffer),
});

async function reason(call: Promise<unknown>): Promise<[Code, string, Record<string, string>]> {
  try {
    await call;
  } catch (error) {
    const told = ConnectError.from(error);
    const [info] = told.findDetails(ErrorInfoSchema);
    assert.ok(info, `no ErrorInfo in ${String(error)}`);
    return [told.code, info.reason, info.metadata];
  }
  assert.fail("no error");
}

async function drained(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream);
}

for (const [name, transport] of Object.entries(transports)) {
  const state = createClient(StateService, transport);
  const vectors = createClient(VectorService, transport);
  const scripts = createClient(ScriptService, transport);

  suite(name, () => {
    test("state is each tenant's own", async () => {
      const key = `ts/${name}`;
      for (const [tenant, secret] of Object.entries(keys)) {
        const value = { encoding: { case: "text" as const, value: tenant } };
        await state.setState({ key, value }, as(secret));
      }
      for (const [tenant, secret] of Object.entries(keys)) {
        const { item } = await state.getState({ key }, as(secret));
        assert.equal(item?.value?.encoding.value, tenant);
      }
    });

    test("a search finds only one's own", async () => {
      const collectionId = `ts-${name}`;
      for (const [tenant, secret] of Object.entries(keys)) {
        await vectors.createCollection({ collectionId, dimension: 3 }, as(secret));
        const records = [
          { recordId: `${tenant}-x`, vector: vector(1, 0, 0) },
          { recordId: `${tenant}-y`, vector: vector(0, 1, 0) },
        ];
        await vectors.upsertVectors({ collectionId, records }, as(secret));
      }
      for (const [tenant, secret] of Object.entries(keys)) {
        const request = { collectionId, vector: vector(0.9, 0.1, 0) };
        const { hits } = await vectors.search(request, as(secret));
        assert.deepEqual(
          hits.map((hit) => hit.recordId),
          [`${tenant}-x`, `${tenant}-y`],
        );
      }
    });

    test("a script streams what it prints", async () => {
      const source = `print("one") print("two") return {answer = 6 * 7}`;
      let printed = "";
      let result = "";
      for await (const { event } of scripts.runScript({ source }, as(keys["acme"]!))) {
        if (event.case === "output") printed += new TextDecoder().decode(event.value.data);
        if (event.case === "result") result = event.value.json;
      }
      assert.equal(printed, "one\ntwo\n");
      assert.equal(result, `{"answer":42}`);
    });

    test("errors have reasons", async () => {
      const acme = as(keys["acme"]!);
      const absent = state.getState({ key: "ts/absent" }, acme);
      assert.deepEqual((await reason(absent)).slice(0, 2), [Code.NotFound, "ITEM_NOT_FOUND"]);
      const [code, , more] = await reason(state.getState({}, acme));
      assert.deepEqual([code, more["field"]], [Code.InvalidArgument, "key"]);
      const nobody = state.getState({ key: "k" }, as(`llms_nobody_${"a".repeat(32)}`));
      const unknown = [Code.Unauthenticated, "CREDENTIAL_INVALID"];
      assert.deepEqual((await reason(nobody)).slice(0, 2), unknown);
      const other = state.getState({ key: "k" }, as(keys["acme"]!, { "llmspell-tenant": "globex" }));
      const denied = [Code.PermissionDenied, "PERMISSION_DENIED"];
      assert.deepEqual((await reason(other)).slice(0, 2), denied);
      const failing = scripts.runScript({ source: "error('no')" }, as(keys["globex"]!));
      assert.equal((await reason(drained(failing)))[1], "SCRIPT_FAILED");
    });

    test("a deadline is kept", async () => {
      const options = { ...as(keys["acme"]!), timeoutMs: 300 };
      const stream = scripts.runScript({ source: "while true do end" }, options);
      await assert.rejects(drained(stream), (error) => {
        return ConnectError.from(error).code === Code.DeadlineExceeded;
      });
    });
  });
}
