package main

import "orderd/docs"

// openAPI is the document served at /openapi.yaml.
var openAPI = docs.OpenAPI
