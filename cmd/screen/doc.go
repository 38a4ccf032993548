// Package screen is the one door by which the programs write for people: Printf, Table and
// JSON, through which no word of somebody else can forge a line or move a cursor
// (bounds.Shown), and Progress, a line that moves only where a terminal is. Tests walk over
// the sources: no other package of orderd prints.
package screen
