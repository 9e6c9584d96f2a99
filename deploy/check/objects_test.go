package check

import (
	"bytes"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// A scaledObject is the part of KEDA's kind that we use; any other key is taken for a slip of the pen.
type scaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef  struct{ Name string } `json:"scaleTargetRef"`
		MinReplicaCount int                   `json:"minReplicaCount"`
		MaxReplicaCount int                   `json:"maxReplicaCount"`
		PollingInterval int                   `json:"pollingInterval"`
		Fallback        struct {
			FailureThreshold int `json:"failureThreshold"`
			Replicas         int `json:"replicas"`
		} `json:"fallback"`
		Advanced struct {
			HPA struct {
				Behavior struct {
					ScaleDown struct {
						StabilizationWindowSeconds int `json:"stabilizationWindowSeconds"`
					} `json:"scaleDown"`
				} `json:"behavior"`
			} `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
		Triggers []struct {
			Type       string            `json:"type"`
			MetricType string            `json:"metricType"`
			Metadata   map[string]string `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

// A serviceMonitor is the part of the Prometheus operator's kind that we use.
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Interval string `json:"interval"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// kinds are those that may occur, with what the API server would decode them into.
var kinds = map[string]func() any{
	"apps/v1 Deployment":                      func() any { return &appsv1.Deployment{} },
	"batch/v1 Job":                            func() any { return &batchv1.Job{} },
	"v1 ConfigMap":                            func() any { return &corev1.ConfigMap{} },
	"v1 Secret":                               func() any { return &corev1.Secret{} },
	"v1 Service":                              func() any { return &corev1.Service{} },
	"networking.k8s.io/v1 Ingress":            func() any { return &networkingv1.Ingress{} },
	"networking.k8s.io/v1 NetworkPolicy":      func() any { return &networkingv1.NetworkPolicy{} },
	"policy/v1 PodDisruptionBudget":           func() any { return &policyv1.PodDisruptionBudget{} },
	"keda.sh/v1alpha1 ScaledObject":           func() any { return &scaledObject{} },
	"monitoring.coreos.com/v1 ServiceMonitor": func() any { return &serviceMonitor{} },
}

// Objects are what would be applied, by kind and name.
type objects map[string]any

// decode reads documents as strictly as `kubectl apply --validate=strict`.
func decode(t *testing.T, documents ...string) objects {
	t.Helper()
	all := objects{}
	for _, text := range documents {
		for document := range strings.SplitSeq(text, "\n---") {
			var head struct {
				metav1.TypeMeta `json:",inline"`
				Metadata        struct{ Name string }
			}
			if err := yaml.Unmarshal([]byte(document), &head); err != nil {
				t.Fatalf("%v in\n%s", err, document)
			}
			if head.Kind == "" {
				continue
			}
			make, known := kinds[head.APIVersion+" "+head.Kind]
			if !known {
				t.Errorf("unknown kind %s %s", head.APIVersion, head.Kind)
				continue
			}
			o := make()
			if err := yaml.UnmarshalStrict([]byte(document), o); err != nil {
				t.Errorf("%s %s: %v", head.Kind, head.Metadata.Name, err)
			}
			name := head.Kind + " " + head.Metadata.Name
			if all[name] != nil {
				t.Errorf("%s stands there twice", name)
			}
			all[name] = o
		}
	}
	return all
}

// of are the objects of a type.
func of[T any](all objects) (found []T) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if o, ok := all[name].(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// kustomized is what `kubectl kustomize` makes of the base with components.
func kustomized(t *testing.T, components ...string) objects {
	t.Helper()
	return overlaid(t, "", nil, components...)
}

// overlaid is kustomized with more of the overlay's own.
func overlaid(t *testing.T, more string, files map[string]string, components ...string) objects {
	t.Helper()
	base, err := filepath.Abs("../kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	disk := filesys.MakeFsOnDisk()
	overlay := t.TempDir()
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + relative(t, overlay, base) + "]\n"
	if len(components) > 0 {
		text += "components:\n"
	}
	for _, c := range components {
		text += "  - " + relative(t, overlay, filepath.Join(base, "components", c)) + "\n"
	}
	files = maps.Clone(files)
	if files == nil {
		files = map[string]string{}
	}
	files["kustomization.yaml"] = text + more
	for name, text := range files {
		if err := disk.WriteFile(filepath.Join(overlay, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, overlay)
	if err != nil {
		t.Fatal(err)
	}
	out, err := made.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, string(out))
}

func relative(t *testing.T, from, to string) string {
	t.Helper()
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Rel(from, to)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

const chartDir = "../helm/hongyan"

// rendered is what `helm template NAME` makes of the chart with values, or why it does not.
func rendered(t *testing.T, release, values string) (objects, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	own, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	options := chartutil.ReleaseOptions{Name: release, Namespace: "messages", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, own, options, nil)
	if err != nil {
		return nil, err // the schema
	}
	files, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		t.Fatal(err)
	}
	var documents []string
	for name, text := range files {
		if filepath.Ext(name) == ".yaml" {
			documents = append(documents, text)
		}
	}
	return decode(t, documents...), nil
}

func mustRender(t *testing.T, release, values string) objects {
	t.Helper()
	all, err := rendered(t, release, values)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// plain is an object without what tells a chart from a base: labels and annotations of Helm's, the hash in the name of
// the configuration.
func plain(t *testing.T, o any) any {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	return strip(tree)
}

func strip(tree any) any {
	switch v := tree.(type) {
	case map[string]any:
		for _, key := range []string{"annotations", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart", "imagePullPolicy"} {
			delete(v, key)
		}
		for key := range v {
			v[key] = strip(v[key])
		}
	case []any:
		for i := range v {
			v[i] = strip(v[i])
		}
	case string:
		if strings.HasPrefix(v, "hongyan-config-") {
			return "hongyan-config"
		}
	}
	return tree
}
