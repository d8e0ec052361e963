package logql

import (
	"context"
	"maps"
	"slices"

	"github.com/logcluster/logcluster/segment"
)

// Labels returns the label names, sorted, of the streams that the selector matches ("":
// all streams) and that may have entries in Start <= t < End, and what could not be read.
func (e *Engine) Labels(ctx context.Context, tenant, selector string, start, end int64) (names, warnings []string, err error) {
	found := map[string]struct{}{}
	warnings, err = e.streams(ctx, tenant, []string{selector}, start, end, func(l segment.Labels) {
		for _, p := range l {
			found[p.Name] = struct{}{}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	return sortedKeys(found), warnings, nil
}

// LabelValues is Labels for the values of the label called name.
func (e *Engine) LabelValues(ctx context.Context, tenant, name, selector string, start, end int64) (values, warnings []string, err error) {
	if !segment.ValidLabelName(name) {
		return nil, nil, badRequest("%s is no label name: names are made of letters, digits and _, and begin with no digit", quote(name))
	}
	found := map[string]struct{}{}
	warnings, err = e.streams(ctx, tenant, []string{selector}, start, end, func(l segment.Labels) {
		if value := l.Get(name); value != "" {
			found[value] = struct{}{}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	return sortedKeys(found), warnings, nil
}

// Series returns the label sets, sorted and each once, of the streams that one of the
// selectors matches (none: all streams) and that may have entries in Start <= t < End.
func (e *Engine) Series(ctx context.Context, tenant string, selectors []string, start, end int64) (series []segment.Labels, warnings []string, err error) {
	if len(selectors) == 0 {
		selectors = []string{""}
	}
	series = []segment.Labels{}
	warnings, err = e.streams(ctx, tenant, selectors, start, end, func(l segment.Labels) { series = append(series, l) })
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(series, compareLabels)
	return slices.CompactFunc(series, segment.Labels.Equal), warnings, nil
}

// streams calls found with every label set that one of the selectors matches. A set may
// come several times.
func (e *Engine) streams(ctx context.Context, tenant string, selectors []string, start, end int64, found func(segment.Labels)) ([]string, error) {
	if end <= start {
		return nil, badRequest("the end of the time range must be after its start")
	}
	scans := make([]*Scan, 0, len(selectors))
	damage := newDamage(false)
	for _, selector := range selectors {
		log := &LogExpr{}
		if selector != "" {
			var err error
			if log.Matchers, err = ParseSelector(selector); err != nil {
				return nil, err
			}
		}
		query := segment.Query{Tenant: tenant, Start: start, End: end, Matchers: log.Matchers, OnDamage: damage.callback()}
		scans = append(scans, &Scan{Text: log.String(), Query: query})
	}
	bounded, cancel := e.withTimeout(ctx, true)
	defer cancel()
	for _, scan := range scans {
		sets, err := e.options.Source.Streams(bounded, scan)
		if err != nil {
			return nil, ended(bounded, err)
		}
		for _, labels := range sets {
			found(labels)
		}
	}
	return damage.texts(), nil
}

func sortedKeys(m map[string]struct{}) []string {
	keys := slices.AppendSeq(make([]string, 0, len(m)), maps.Keys(m))
	slices.Sort(keys)
	return keys
}
