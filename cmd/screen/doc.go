// Package screen is what the programs write for people by: progress in a line that moves
// only where a terminal is.
package screen
