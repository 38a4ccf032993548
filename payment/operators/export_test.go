package operators

// TOTPCode is totpCode.
var TOTPCode = totpCode

// ViewsQuery is viewsQuery, for EXPLAIN.
const ViewsQuery = viewsQuery
