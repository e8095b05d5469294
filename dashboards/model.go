package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Dashboard is a page: rows of panels, from top to bottom.
type Dashboard struct {
	// UID is part of the page's address and must stay.
	UID, Title, Description string
	Rows                    []Row
}

// Row is a heading with panels below it, from left to right.
type Row struct {
	Title string
	// Height of the panels in Grafana's grid; 0 means 8.
	Height int
	Panels []Panel
}

// Panel is one picture.
type Panel struct {
	Title string
	// Description says what the picture answers, for the reader.
	Description string
	// Kind is timeseries or stat; empty means timeseries.
	Kind string
	// Unit is Grafana's id of the unit: s, bytes, Bps, ops, short, percentunit.
	Unit    string
	Queries []Query
	// Stack the series on each other.
	Stack bool
}

// Query is an expression of PromQL. Legend names its series, as {{label}}.
type Query struct {
	Expr, Legend string
	// Quiet says why a node may have no series of it although everything happens there
	// that the page shows; empty: it always has, under load, and a test looks.
	Quiet string
}

// gridColumns is the width of Grafana's grid.
const gridColumns = 24

// JSON is the page as Grafana imports it. The data source is a variable.
func (d Dashboard) JSON() ([]byte, error) {
	var panels []any
	id, y := 0, 0
	next := func() int { id++; return id }
	for _, row := range d.Rows {
		panels = append(panels, map[string]any{
			"id": next(), "type": "row", "title": row.Title, "collapsed": false, "panels": []any{},
			"gridPos": position(0, y, gridColumns, 1),
		})
		y++
		height := row.Height
		if height == 0 {
			height = 8
		}
		width := gridColumns / max(1, len(row.Panels))
		for n, p := range row.Panels {
			panels = append(panels, p.json(next(), position(n*width, y, width, height)))
		}
		y += height
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(map[string]any{
		"uid": d.UID, "title": d.Title, "description": d.Description, "tags": []string{"vitrine"},
		"schemaVersion": 39, "editable": true, "graphTooltip": 1, "timezone": "", "refresh": "30s",
		"time":   map[string]string{"from": "now-1h", "to": "now"},
		"panels": panels,
		"links":  []any{map[string]any{"type": "dashboards", "tags": []string{"vitrine"}, "title": "Vitrine", "asDropdown": true, "includeVars": true, "keepTime": true}},
		"templating": map[string]any{"list": []any{
			map[string]any{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0},
			map[string]any{
				"name": "instance", "label": "Node", "type": "query", "datasource": datasource(), "refresh": 2,
				"query":      map[string]string{"query": "label_values(vitrine_build_info, instance)", "refId": "instance"},
				"includeAll": true, "multi": true, "allValue": ".*", "current": map[string]any{"text": "All", "value": "$__all"},
			},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode dashboard %s: %w", d.UID, err)
	}
	return out.Bytes(), nil
}

func position(x, y, w, h int) map[string]int { return map[string]int{"x": x, "y": y, "w": w, "h": h} }

func datasource() map[string]string {
	return map[string]string{"type": "prometheus", "uid": "${datasource}"}
}

func (p Panel) json(id int, at map[string]int) any {
	kind := p.Kind
	if kind == "" {
		kind = "timeseries"
	}
	var targets []any
	for n, q := range p.Queries {
		targets = append(targets, map[string]any{
			"refId": string(rune('A' + n)), "expr": q.Expr, "legendFormat": q.Legend,
			"datasource": datasource(), "exemplar": kind == "timeseries",
		})
	}
	defaults := map[string]any{"unit": p.Unit, "min": 0}
	if kind == "timeseries" {
		custom := map[string]any{"fillOpacity": 10, "showPoints": "never", "lineWidth": 1}
		if p.Stack {
			custom["stacking"], custom["fillOpacity"] = map[string]string{"mode": "normal"}, 40
		}
		defaults["custom"] = custom
	}
	return map[string]any{
		"id": id, "type": kind, "title": p.Title, "description": p.Description, "gridPos": at,
		"datasource": datasource(), "targets": targets,
		"fieldConfig": map[string]any{"defaults": defaults, "overrides": []any{}},
	}
}
