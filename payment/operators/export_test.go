package operators

// TOTPCode is totpCode.
var TOTPCode = totpCode
