package cli

import "fmt"

// didYouMean is a hint at the name of known that is nearest to what was written, or "".
// The form is put around the name: "--%s".
func didYouMean(written, form string, known []string) string {
	if name := nearest(written, known); name != "" {
		return fmt.Sprintf(": did you mean "+form+"?", name)
	}
	return ""
}

// nearest returns the name with the smallest edit distance, the first of several, or ""
// if all differ in more than half of their letters, when a hint would only puzzle.
func nearest(written string, known []string) string {
	best, least := "", 0
	for _, name := range known {
		d := editDistance(written, name)
		if 2*d <= max(len(written), len(name)) && (best == "" || d < least) {
			best, least = name, d
		}
	}
	return best
}

// editDistance counts the bytes to insert, delete, change or swap with their neighbour to
// make one text the other (optimal string alignment). Texts that are too long to be names
// are cut.
func editDistance(a, b string) int {
	const longest = 64
	a, b = a[:min(len(a), longest)], b[:min(len(b), longest)]
	// Three rows of the table: two above, one above, and this one.
	var rows [3][longest + 1]int
	above2, above, row := rows[0][:], rows[1][:], rows[2][:]
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		above2, above, row = above, row, above2
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := above[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(above[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], above2[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
