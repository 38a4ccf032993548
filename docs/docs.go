// Package docs embeds the documents that the service itself shows.
package docs

import _ "embed"

// OpenAPI describes the customers' API.
//
//go:embed openapi.yaml
var OpenAPI []byte

// AdminOpenAPI describes the operators' API.
//
//go:embed admin-openapi.yaml
var AdminOpenAPI []byte
