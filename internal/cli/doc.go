// Package cli is what the user of the one binary meets: commands, their help, and the
// settings of all of them. The commands that speak to a node do so through http/client;
// start, which is a node, is handed in by main.
//
// # Settings
//
// Every setting can be given in four ways. The first that is there counts:
//
//	--flag VALUE            on the command line
//	LOGCLUSTER_FLAG=VALUE   in the environment ('-' becomes '_'; empty is as if absent)
//	flag: VALUE             in the flat YAML file that --config names
//	                        the default
//
// A setting is declared once, as a setting value, from which its flag, its line of help
// and its environment variable follow. All commands share one file and one environment:
// a key that any command knows is right, another is an error (in the environment, where
// other programs may leave things, a warning), and the nearest known name is told.
// Faults are collected, so that one run shows them all.
//
// # Promises
//
//   - U1 Exit codes: 0 done, 1 not done or not all of it, 2 not understood (nothing was done).
//   - U2 push sends the bytes of the input, cut at '\n' and nowhere else, in their order;
//     what it could not have stored it names by file and line.
//   - U3 query writes raw lines and JSON as the server sent them; a part of an answer is
//     never passed off as all of it. On a terminal, no stored line can send it a command.
//   - U4 A reader of the output that has had enough (a closed pipe) is no error.
package cli
