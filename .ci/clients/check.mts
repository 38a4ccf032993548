// A typed client, generated from docs/openapi.yaml, against a running service: it must
// type-check, and every answer must be one that the document describes, with no field that
// it does not. Environment: BASE, the address of the api listener; TOKEN, a customer's
// token; ORDERD, a command that runs `orderd trigger` on the service's data.
import createClient from 'openapi-fetch';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { execSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { components, paths } from './api.js';

const doc = JSON.parse(readFileSync(process.argv[2]!, 'utf8')); // the document as JSON, with its references followed
const ajv = new Ajv2020.default({ strict: false, allErrors: true });
addFormats.default(ajv);

let answers = 0;
const faults: string[] = [];

// undeclared names the fields of a value that its schema does not.
function undeclared(schema: any, at: string, value: any): string[] {
  if (!schema || value === null || typeof value !== 'object') return [];
  if (Array.isArray(value)) return value.flatMap((v, i) => undeclared(schema.items, `${at}[${i}]`, v));
  const choices: any[] = schema.oneOf?.filter((s: any) => s.type !== 'null') ?? [schema];
  const found = choices.map((s) => Object.keys(value).flatMap((k) =>
    s.properties?.[k] ? undeclared(s.properties[k], `${at}.${k}`, value[k]) : [`${at}.${k}`]));
  return found.sort((a, b) => a.length - b.length)[0]!;
}

function hold(method: string, path: string, response: Response, text: string) {
  answers++;
  const name = `${method.toUpperCase()} ${path} ${response.status}`;
  const described = doc.paths[path]?.[method]?.responses[String(response.status)];
  if (!described) return faults.push(`${name}: the status is not described`);
  const [type, media] = (Object.entries(described.content ?? {})[0] ?? []) as [string, any];
  if (!type) return text && faults.push(`${name}: a body, and none is described`);
  const real = response.headers.get('content-type') ?? '';
  if (!real.startsWith(type)) return faults.push(`${name}: type ${real}, described ${type}`);
  if (!type.includes('json')) return;
  const body = JSON.parse(text);
  if (!ajv.validate(media.schema, body)) faults.push(`${name}: ${ajv.errorsText()}: ${text}`);
  const extra = undeclared(media.schema, '$', body);
  if (extra.length > 0) faults.push(`${name}: not described: ${extra.join(' ')}`);
}

const c = createClient<paths>({ baseUrl: process.env.BASE!, headers: { Authorization: `Bearer ${process.env.TOKEN}` } });
c.use({
  async onResponse({ request, response, schemaPath }) {
    hold(request.method.toLowerCase(), schemaPath, response, await response.clone().text());
  },
});

const key = () => ({ 'Idempotency-Key': randomUUID() });
const place = (items: components['schemas']['Placement']['items'], more: object = {}) =>
  c.POST('/v1/orders', { params: { header: key() }, body: { items, ...more } });
async function placed(): Promise<components['schemas']['Order']> {
  const { data } = await place([{ sku_id: '1001', quantity: 2 }], { remark: 'hi', attach: 'shop-7' });
  if (!data || !('amount' in data)) throw new Error('no order: ' + JSON.stringify(data));
  return data;
}

const order = await placed();
const one = { params: { path: { order_no: order.order_no } } };
await c.GET('/v1/orders', { params: { query: { limit: 2 } } });
await c.GET('/v1/orders/{order_no}', one);
for (const body of [
  { trade_type: 'NATIVE' },
  { trade_type: 'JSAPI', payer: { openid: 'o6_test' } },
  { trade_type: 'H5', scene_info: { payer_client_ip: '1.2.3.4', h5_info: { type: 'iOS' } } },
  { trade_type: 'APP' },
] satisfies components['schemas']['PrepayRequest'][]) {
  const { data, error } = await c.POST('/v1/orders/{order_no}/prepay', { ...one, body });
  // What a page hands to wx.requestPayment, and an app to its SDK, by their types alone.
  const sign: string | undefined = { NATIVE: data?.code_url, JSAPI: data?.jsapi?.paySign, H5: data?.h5_url,
    APP: data?.app?.sign }[body.trade_type];
  if (!sign) faults.push(`${body.trade_type}: nothing to pay with: ${JSON.stringify(error ?? data)}`);
}
await c.POST('/v1/orders/{order_no}/payment-query', one);
await c.POST('/v1/orders/{order_no}/payment-query', one); // too soon
execSync(`${process.env.ORDERD} trigger payment.success ${order.order_no}`, { stdio: 'ignore' });
const paid = await c.GET('/v1/orders/{order_no}', one);
if (!paid.data || !('payment' in paid.data) || paid.data.payment?.amount.total !== order.amount.total) {
  faults.push('not paid: ' + JSON.stringify(paid.data));
}
await c.POST('/v1/orders/{order_no}/cancel', { ...one, body: { reason: 'x' } }); // refused: it is paid
const refund = await c.POST('/v1/orders/{order_no}/refunds', {
  params: { ...one.params, header: key() }, body: { items: [{ sku_id: '1001', quantity: 1 }], reason: 'small' },
});
const refundNo = refund.data!.out_refund_no;
await c.GET('/v1/orders/{order_no}/refunds', one);
await c.GET('/v1/orders/{order_no}/refunds/{out_refund_no}', {
  params: { path: { ...one.params.path, out_refund_no: refundNo } } });
await c.GET('/v1/refunds/{out_refund_no}', { params: { path: { out_refund_no: refundNo } } });
await c.GET('/v1/orders/{order_no}/qrcode.svg', { ...one, parseAs: 'text' });
await c.GET('/v1/skus/{sku_id}/stock', { params: { path: { sku_id: '1001' } } });
await c.GET('/v1/stock', { params: { query: { sku_ids: '1001,nope' } } });

// What is refused, each in its way.
await place([{ sku_id: 'nope', quantity: 1 }]);
await place([{ sku_id: '1001', quantity: 5000 }]);
await place([{ sku_id: '1001', quantity: 0 }], { foo: 1 });
await place([{ sku_id: '1001', quantity: 1 }], { expected_total: { total: 1 } });
await c.POST('/v1/orders', { params: { header: {} as never }, body: { items: [{ sku_id: '1001', quantity: 1 }] } });
await c.GET('/v1/orders/{order_no}', { params: { path: { order_no: 'A'.repeat(26) } } });

// An order that is cancelled, and one that has not changed.
const other = { params: { path: { order_no: (await placed()).order_no } } };
await c.GET('/v1/orders/{order_no}', { params: { ...other.params, header: { 'If-None-Match': '"v1"' } } });
await c.POST('/v1/orders/{order_no}/prepay', { ...other, body: { trade_type: 'NATIVE' } });
await c.GET('/v1/orders/{order_no}/qrcode.svg', { ...other, parseAs: 'text' });
await c.POST('/v1/orders/{order_no}/cancel', { ...other });
await c.GET('/v1/orders/{order_no}/qrcode.svg', { ...other, parseAs: 'text' }); // closed: nothing to draw

await c.GET('/problems/{slug}', { params: { path: { slug: 'stock-insufficient' } }, parseAs: 'text' });
await c.GET('/healthz');
await c.GET('/openapi.yaml', { parseAs: 'text' });

for (const f of faults) console.error(f);
console.log(`${answers} answers, ${faults.length} faults`);
process.exit(faults.length > 0 || answers < 33 ? 1 : 0);
