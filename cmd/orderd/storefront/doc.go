// Package storefront is a small shop in a browser, for seeing what orderd is for within a minute: goods with
// their stock, a button that buys, the QR code, and beside it the buyer's phone, which pays, pays twice, pays in the
// instant of the close, or not at all. Beneath runs what buyer, orderd and WeChat Pay said to one another.
//
// It is a client and nothing else: of the customers' API, as a shop's back end and as its customer, and of
// the simulator's control surface. It imports no package of the business, so that it has no way around a
// rule of theirs; a test holds that. `orderd serve` runs it on loopback, and only where WeChat Pay is simulated.
//
// What it knows of an order it can lose at any time: the order itself is in the service. After a restart a
// page shows the order as it is, without what had been said before.
package storefront
