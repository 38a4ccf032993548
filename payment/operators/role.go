package operators

// Role is what an operator may do. Whoever may do more is a viewer too, and an admin may
// do everything; operators and finance do not include one another, so that whoever asks
// for a refund is not whoever approves it. Its text is that of the columns operators.role
// and operator_tokens.role.
type Role string

// The roles, as accounts and routes have them.
const (
	Viewer   Role = "viewer"   // reads orders, refunds, SKUs and failed tasks
	Operator Role = "operator" // closes orders, asks for refunds, changes SKUs, runs failed tasks
	Finance  Role = "finance"  // approves and rejects refunds, reconciles
	Admin    Role = "admin"    // all of that, and corrections of stock, accounts, tokens, profiles
)

// OperatorOrFinance is what a route needs that both may use: sending a refund again moves
// no more money than was approved. Nobody has it as a role.
const OperatorOrFinance Role = "operator or finance"

// Roles lists the roles that an account can have.
func Roles() []Role { return []Role{Viewer, Operator, Finance, Admin} }

// May reports whether a role includes what is needed, one of the four roles or
// OperatorOrFinance.
func (r Role) May(need Role) bool {
	return r == Admin || r == need || need == Viewer || (need == OperatorOrFinance && (r == Operator || r == Finance))
}
