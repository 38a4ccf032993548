package console

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment/operators"
)

// listAccounts is GET /admin/v1/operators: everybody who works here or did, by name.
func (c *console) listAccounts(ctx echo.Context) error {
	all, err := operators.List(ctx.Request().Context(), c.TokenStore.db)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.Page[operators.Account]{Data: all})
}

// createAccount is POST /admin/v1/operators, 201: an account that has no token yet.
func (c *console) createAccount(ctx echo.Context) error {
	var body struct {
		Name   string `json:"name"`
		Role   Role   `json:"role"`
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	err := operators.Create(ctx.Request().Context(), c.TokenStore.db, body.Name, body.Role, operator(ctx), c.Now())
	if err != nil {
		return accountError(err)
	}
	c.Log.Info("account created", "name", body.Name, "role", body.Role, "by", operator(ctx), "reason", body.Reason)
	return ctx.JSON(http.StatusCreated, map[string]string{"name": body.Name, "role": string(body.Role)})
}

// disableAccount is POST /admin/v1/operators/:name/disable, 204: the account and its tokens
// end, at once in this process and within tokenFor in others. What it may decide is looked
// up where it is written, by every process at once.
func (c *console) disableAccount(ctx echo.Context) error {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	err := operators.Disable(ctx.Request().Context(), c.TokenStore.db, ctx.Param("name"), operator(ctx), c.Now())
	if err != nil {
		return accountError(err)
	}
	c.TokenStore.Forget()
	c.Log.Info("account disabled", "name", ctx.Param("name"), "by", operator(ctx), "reason", body.Reason)
	return ctx.NoContent(http.StatusNoContent)
}

// changeRole is POST /admin/v1/operators/:name/role, 204; see disableAccount for when.
func (c *console) changeRole(ctx echo.Context) error {
	var body struct {
		Role   Role   `json:"role"`
		Reason string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	err := operators.SetRole(ctx.Request().Context(), c.TokenStore.db, ctx.Param("name"), body.Role, c.Now())
	if err != nil {
		return accountError(err)
	}
	c.TokenStore.Forget()
	c.Log.Info("role changed", "name", ctx.Param("name"), "role", body.Role, "by", operator(ctx), "reason", body.Reason)
	return ctx.NoContent(http.StatusNoContent)
}

// invalidField is a VALIDATION_FAILED about one field.
func invalidField(pointer, why string) error {
	return &orderhttp.Failure{Code: orderhttp.CodeValidation,
		Fields: []order.FieldError{{Pointer: pointer, Code: "INVALID", Detail: why}}}
}

// accountError gives the errors of accounts and tokens their codes; what it does not know is
// left to the table of package orderhttp.
func accountError(err error) error {
	for _, known := range []error{operators.ErrName, operators.ErrExists, ErrTokenExists} {
		if errors.Is(err, known) {
			return invalidField("#/name", known.Error())
		}
	}
	switch {
	case errors.Is(err, operators.ErrRole):
		return invalidField("#/role", operators.ErrRole.Error())
	case errors.Is(err, operators.ErrNoAccount), errors.Is(err, ErrNoToken):
		return &orderhttp.Failure{Code: orderhttp.CodeNotFound}
	}
	return err
}
