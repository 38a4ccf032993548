// Package operators has the accounts of the people who work at a shop, and the rule that
// says whether two of them are two people.
//
// A person is an account, table operators. A token belongs to a person, and whatever is
// done with it is done in the person's name. So is a link, by which a password is set. Whoever
// made an account, one of its tokens or one of its links had its secret in hand and could have
// used it; so could whoever made that one, and so on.
// The rule for everything that takes two is therefore:
//
//	Two people are two if neither of them stands behind the other. Behind a person stands
//	whoever made the account or any token or link of it, and whoever stands behind that one.
//
// The shell of the machine (verbs of orderd without a person's token) is nobody's second
// person, and everybody whose account was made there is none beside it. It may propose what
// a person then confirms. The bootstrap token is a person in this sense, behind everybody
// whom it has let in: it makes the first accounts and is of no use for what takes two.
//
// What the rule does not see: one who makes the accounts of two others and keeps both
// secrets can act as both. So an act by an account, a token or a link that is younger than
// FreshFor is marked and raises an alarm: two that were made for one occasion do not pass
// unseen.
//
// Logins are how people come into the console: a password (argon2id, password.go), a one-time
// code (totp.go), a link that sets a password once (link.go), a session (session.go), and how
// many wrong ones a name and an address have (throttle.go).
package operators
