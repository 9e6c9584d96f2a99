// Package audience reads lists of recipients: CSV, JSON Lines and Excel files, packed or not, in UTF-8 or GB18030, row
// by row, whatever their size.
//
// The one fact to know: a row that cannot be taken is told, with its line and the reason, and reading goes on behind it.
// Nothing is left out in silence, and no broken row takes others with it.
package audience
