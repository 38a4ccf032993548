// Package shipping tells a mini program's operator that goods were sent (发货信息录入).
// WeChat freezes what such a shop was paid until it has been told, and may stop its
// payments when it is not told in time: developers.weixin.qq.com, 小程序发货信息管理服务
// (business-capabilities/order-shipping/order-shipping.html).
//
// A paid order of the mini program is owed a shipment; the shop says what it has sent
// (Put), and a worker reports it until WeChat has an answer for it (Run). Nothing of it
// moves an order, its money or its stock: a shipment is a row beside them.
//
//	owed      paid, and the shop has not said that it was sent; or WeChat has a part of it
//	          (Content.Partial), and the rest is to come
//	due       the shop has said so; WeChat is told, and told again while it gives no answer
//	reported  WeChat has it
//	refused   WeChat does not take it as it is: a person mends it, and it is due again
//	void      the money went back whole: there is nothing to send
//
// The protocol is that of every call out: the turn is taken in a transaction, the call is
// made outside of one, and its answer is written only where the turn still stands. No
// answer changes nothing, and is asked again.
package shipping
