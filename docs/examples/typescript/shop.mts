// A shop's back end in about a hundred lines: it places an order, hands out what a buyer pays with,
// hears by webhook that it is paid, sends the goods, and refunds.
//
// Its types are generated from the document:
//   npx openapi-typescript ../../openapi.yaml -o api.d.ts && npx tsc && node shop.mjs
import { createServer } from 'node:http';
import createClient from 'openapi-fetch';
import { Webhook } from 'standardwebhooks';
import type { paths } from './api.js';

const env = (name: string): string => {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name}`);
  return value;
};

// A webhook's body is thin, so that the order in which they arrive cannot mislead. Whoever wants to
// know more reads the order.
type Event = { type: string; timestamp: string; data: { order_no?: string; version?: number } };

const waiting: ((e: Event) => void)[] = [];
const signed = new Webhook(env('WEBHOOK_SECRET'));
createServer(async (req, res) => {
  const body: Buffer[] = [];
  for await (const part of req) body.push(part as Buffer);
  try {
    // Who sent it, and not long ago. It may come twice: what it starts must bear that.
    const event = signed.verify(Buffer.concat(body), req.headers as Record<string, string>) as Event;
    for (const hear of waiting) hear(event); // a real shop commits it first, and works on it afterwards
    res.writeHead(204).end();
  } catch (e) {
    res.writeHead(400).end(String(e));
  }
}).listen(Number(env('LISTEN').split(':')[1]), '127.0.0.1');

// heard waits for a webhook about an order.
const heard = (type: string, orderNo: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${type} of ${orderNo}`)), 60_000);
    waiting.push((e) => {
      if (e.type === type && e.data.order_no === orderNo) {
        clearTimeout(timer);
        resolve();
      }
    });
  });

// The shop's key, and for whom it acts.
const shop = createClient<paths>({
  baseUrl: env('BASE'),
  headers: { Authorization: `Bearer ${env('TOKEN')}`, 'Orderd-Customer': 'c1' },
});

// The key makes a repeat the same order: on an error or a 5xx ask again with it. The reference is the
// shop's own number, in every webhook about the order.
const placed = await shop.POST('/v1/orders', {
  params: { header: { 'Idempotency-Key': `cart-${env('CART')}` } },
  body: { items: [{ sku_id: '1001', quantity: 2 }], reference: `cart-${env('CART')}` },
});
if (!placed.data || !('amount' in placed.data)) {
  throw new Error('not placed: ' + JSON.stringify(placed.error ?? placed.data)); // sold out, or it waits in a queue
}
const order_no = placed.data.order_no;
const one = { params: { path: { order_no } } };

const paid = heard('order.paid', order_no);
const pay = await shop.POST('/v1/orders/{order_no}/prepay', {
  ...one, body: { trade_type: 'JSAPI', payer: { openid: 'o6_test' } },
});
if (!pay.data?.jsapi) throw new Error('nothing to pay with: ' + JSON.stringify(pay.error));
console.log('pay', order_no, pay.data.jsapi.paySign); // what the page hands to wx.requestPayment

await paid;
const order = await shop.GET('/v1/orders/{order_no}', one);
console.log('paid: send the goods:', JSON.stringify(order.data));

// One of the two comes back. The amount is the service's: it knows what was paid.
const back = heard('refund.succeeded', order_no);
const refund = await shop.POST('/v1/orders/{order_no}/refunds', {
  params: { ...one.params, header: { 'Idempotency-Key': `return-${order_no}` } },
  body: { items: [{ sku_id: '1001', quantity: 1 }], reason: 'too small' },
});
if (!refund.data) throw new Error('no refund: ' + JSON.stringify(refund.error));
console.log('refund', refund.data.out_refund_no); // a person approves it
await back;
console.log('done');
process.exit(0);
