// Package echoes remembers the callbacks of WeChat Pay's test of signatures
// (SECURITY_ECHO.SUCCESS), table echoes, which moves nothing: doctor asks the question in
// one process, and the callback of it comes to another, so that what came is looked up in
// the database that both share. Rows are kept for a week.
package echoes
