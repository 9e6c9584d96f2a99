package check

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// The ways in which Hongyan is put on a cluster.
func variants(t *testing.T) map[string]objects {
	t.Helper()
	return map[string]objects{
		"base":            kustomized(t),
		"base, all":       kustomized(t, "keda", "monitoring"),
		"chart":           mustRender(t, "hongyan", ""),
		"chart, all":      mustRender(t, "east", "ingress: {enabled: true, className: nginx, tlsSecret: tls}\nserviceMonitor: {enabled: true, labels: {release: prometheus}}\nkeda: {enabled: true, maxReplicas: 20}"),
		"chart, scarce":   mustRender(t, "hongyan", "networkPolicy: {enabled: false}\nmigrate: {enabled: false}"),
		"chart, dressed":  mustRender(t, "hongyan", "image: {repository: r.example.com/hongyan, tag: v1, pullSecrets: [{name: r}]}\nworker: {nodeSelector: {a: b}, tolerations: [{key: c, operator: Exists}], podAnnotations: {d: e}}"),
		"chart, two more": mustRender(t, "shop-hongyan-2", "secrets: {stores: s, accounts: a}"),
	}
}

func each(t *testing.T, test func(*testing.T, objects)) {
	for name, all := range variants(t) {
		t.Run(name, func(t *testing.T) { test(t, all) })
	}
}

// Kustomize and Helm are two roads to one place.
func TestChartIsTheBase(t *testing.T) {
	for name, pair := range map[string][2]objects{
		"plain": {kustomized(t), mustRender(t, "hongyan", "")},
		"all":   {kustomized(t, "keda", "monitoring"), mustRender(t, "hongyan", "keda: {enabled: true}\nserviceMonitor: {enabled: true}")},
	} {
		var trees [2]map[string]any
		for i, all := range pair {
			trees[i] = map[string]any{}
			for name, o := range all {
				if c, ok := o.(*corev1.ConfigMap); ok {
					name = "ConfigMap"
					c.Labels = nil
					var read any // comments and order are the file's own
					if err := yaml.Unmarshal([]byte(c.Data["hongyan.yaml"]), &read); err != nil {
						t.Fatal(err)
					}
					trees[i]["configuration"] = read
					c.Data = nil
				}
				trees[i][name] = plain(t, o)
			}
		}
		if d := cmp.Diff(trees[0], trees[1]); d != "" {
			t.Errorf("%s: the base (-) and the chart (+) differ:\n%s", name, d)
		}
	}
}

// An overlay changes the image and the configuration as the base's first lines say.
func TestOverlaysOfTheBase(t *testing.T) {
	all := overlaid(t, `images: [{name: hongyan, newName: registry.example.com/hongyan, newTag: v1.0.0}]
configMapGenerator: [{name: hongyan-config, behavior: replace, files: [hongyan.yaml]}]
namespace: messages
`, map[string]string{"hongyan.yaml": "# mine\n"}, "keda")
	for name, pod := range pods(all) {
		if got := pod.Containers[0].Image; got != "registry.example.com/hongyan:v1.0.0" {
			t.Errorf("%s runs %s", name, got)
		}
		for _, v := range pod.Volumes {
			if v.ConfigMap == nil {
				continue
			}
			c, ok := all["ConfigMap "+v.ConfigMap.Name].(*corev1.ConfigMap)
			if !ok || c.Data["hongyan.yaml"] != "# mine\n" {
				t.Errorf("%s reads %s, which is %+v", name, v.ConfigMap.Name, c)
			}
		}
	}
}

func TestPodsAreLockedDown(t *testing.T) {
	each(t, func(t *testing.T, all objects) {
		for name, pod := range pods(all) {
			s := pod.SecurityContext
			if s == nil || !*s.RunAsNonRoot || *s.RunAsUser != 65532 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s: security context %+v", name, s)
			}
			if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
				t.Errorf("%s is given a token of the cluster", name)
			}
			for _, c := range pod.Containers {
				s := c.SecurityContext
				if s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
					t.Errorf("%s: security context of the container %+v", name, s)
				}
				if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s: resources %+v", name, c.Resources)
				}
				if c.Resources.Limits.Memory().Cmp(*c.Resources.Requests.Memory()) < 0 {
					t.Errorf("%s asks for more memory than it may have", name)
				}
				if _, tag, ok := strings.Cut(c.Image, ":"); !ok || tag == "" {
					t.Errorf("%s: image %q without a tag", name, c.Image)
				}
			}
		}
	})
}

func TestDeploymentsAreReplacedWithoutAGap(t *testing.T) {
	each(t, func(t *testing.T, all objects) {
		deployments := of[*appsv1.Deployment](all)
		if len(deployments) != 2 {
			t.Fatalf("%d deployments", len(deployments))
		}
		for _, d := range deployments {
			pod := d.Spec.Template
			if !contains(pod.Labels, d.Spec.Selector.MatchLabels) {
				t.Errorf("%s selects %v, its pods are %v", d.Name, d.Spec.Selector.MatchLabels, pod.Labels)
			}
			if g := pod.Spec.TerminationGracePeriodSeconds; g == nil || *g != 40 {
				t.Errorf("%s: grace period %v", d.Name, g)
			}
			if u := d.Spec.Strategy.RollingUpdate; u == nil || u.MaxUnavailable.IntValue() != 0 {
				t.Errorf("%s: strategy %+v", d.Name, d.Spec.Strategy)
			}
			c := pod.Spec.Containers[0]
			for probe, path := range map[*corev1.Probe]string{c.LivenessProbe: "/healthz", c.ReadinessProbe: "/readyz"} {
				if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || !hasPort(c, probe.HTTPGet.Port.String()) {
					t.Errorf("%s: probe %+v, want %s on a port that the container has", d.Name, probe, path)
				}
			}
			budget := false
			for _, b := range of[*policyv1.PodDisruptionBudget](all) {
				budget = budget || contains(pod.Labels, b.Spec.Selector.MatchLabels) && b.Spec.MaxUnavailable.IntValue() == 1
			}
			if !budget {
				t.Errorf("%s has no disruption budget", d.Name)
			}
		}
	})
}

// What is named exists: volumes, services' ports, the configuration, targets of policies.
func TestManifestsFitTogether(t *testing.T) {
	each(t, func(t *testing.T, all objects) {
		labels := map[string]map[string]string{}
		for _, d := range of[*appsv1.Deployment](all) {
			labels[d.Name] = d.Spec.Template.Labels
		}
		for _, j := range of[*batchv1.Job](all) {
			labels[j.Name] = j.Spec.Template.Labels
		}
		for name, pod := range pods(all) {
			volumes := map[string]bool{}
			for _, v := range pod.Volumes {
				volumes[v.Name] = true
				if v.ConfigMap != nil && all["ConfigMap "+v.ConfigMap.Name] == nil {
					t.Errorf("%s: no ConfigMap %s", name, v.ConfigMap.Name)
				}
			}
			for _, m := range pod.Containers[0].VolumeMounts {
				if !volumes[m.Name] {
					t.Errorf("%s: no volume %s", name, m.Name)
				}
			}
		}
		chosen := func(selector map[string]string) (found []string) {
			for name, l := range labels {
				if contains(l, selector) {
					found = append(found, name)
				}
			}
			return found
		}
		for _, s := range of[*corev1.Service](all) {
			targets := chosen(s.Spec.Selector)
			if len(targets) != 1 {
				t.Errorf("Service %s chooses %v", s.Name, targets)
				continue
			}
			c := all["Deployment "+targets[0]].(*appsv1.Deployment).Spec.Template.Spec.Containers[0]
			for _, p := range s.Spec.Ports {
				if !hasPort(c, p.TargetPort.String()) {
					t.Errorf("Service %s: %s has no port %s", s.Name, targets[0], p.TargetPort.String())
				}
			}
		}
		policies := of[*networkingv1.NetworkPolicy](all)
		for _, p := range policies {
			if targets := chosen(p.Spec.PodSelector.MatchLabels); len(targets) != 1 || len(p.Spec.PolicyTypes) != 2 {
				t.Errorf("NetworkPolicy %s chooses %v for %v", p.Name, targets, p.Spec.PolicyTypes)
			}
			for _, from := range p.Spec.Ingress {
				for _, peer := range from.From {
					if peer.PodSelector.MatchLabels["app.kubernetes.io/name"] != "prometheus" {
						t.Errorf("NetworkPolicy %s lets in %v", p.Name, peer.PodSelector)
					}
				}
			}
		}
		if len(policies) != 0 && len(policies) != len(labels) {
			t.Errorf("%d policies for %d sorts of pods", len(policies), len(labels))
		}
		for _, i := range of[*networkingv1.Ingress](all) {
			for _, p := range i.Spec.Rules[0].HTTP.Paths {
				s, ok := all["Service "+p.Backend.Service.Name].(*corev1.Service)
				if !ok || s.Spec.Ports[0].Name != p.Backend.Service.Port.Name || p.Path == "/" {
					t.Errorf("Ingress: %s leads to %+v", p.Path, p.Backend.Service)
				}
			}
		}
		for _, m := range of[*serviceMonitor](all) {
			for _, e := range m.Spec.Endpoints {
				if !slices.ContainsFunc(of[*corev1.Service](all), func(s *corev1.Service) bool {
					return contains(s.Labels, m.Spec.Selector.MatchLabels) && s.Spec.Ports[0].Name == e.Port
				}) {
					t.Errorf("ServiceMonitor: no service has the port %s", e.Port)
				}
			}
		}
	})
}

func TestAutoscalerAsksForWhatCouldBeSent(t *testing.T) {
	exported := exported(t)
	for name, all := range map[string]objects{"base": kustomized(t, "keda"), "chart": mustRender(t, "hongyan", "keda: {enabled: true}")} {
		scaled := of[*scaledObject](all)
		if len(scaled) != 1 || len(scaled[0].Spec.Triggers) != 1 {
			t.Fatalf("%s: %d scaled objects", name, len(scaled))
		}
		s := scaled[0].Spec
		d, ok := all["Deployment "+s.ScaleTargetRef.Name].(*appsv1.Deployment)
		if !ok || d.Spec.Replicas != nil {
			t.Errorf("%s: it scales %s, which says its number itself or does not exist", name, s.ScaleTargetRef.Name)
		}
		if s.MinReplicaCount < 1 || s.MaxReplicaCount < s.MinReplicaCount || s.Triggers[0].MetricType != "AverageValue" {
			t.Errorf("%s: %+v", name, s)
		}
		query := s.Triggers[0].Metadata["query"]
		for _, c := range complaints(query, exported) {
			t.Errorf("%s: %s", name, c)
		}
		for _, tc := range []struct {
			about string
			past  []string
			want  float64
		}{
			{"nothing waits", []string{`hongyan_pace_per_second{account="shop",kind="template"} 1000x120`, `hongyan_backlog_seconds{account="shop",kind="template"} 0x120`}, 0},
			{"a day's backlog wants the whole pace and no more", []string{`hongyan_pace_per_second{account="shop",kind="template"} 1000x120`, `hongyan_backlog_seconds{account="shop",kind="template"} 90000x120`}, 1000},
			{"what goes in 3 s wants a tenth", []string{`hongyan_pace_per_second{account="shop",kind="template"} 1000x120`, `hongyan_backlog_seconds{account="shop",kind="template"} 3x120`}, 100},
			{
				"accounts add up, and two who count at a change of the guard do not",
				[]string{
					`hongyan_pace_per_second{account="shop",kind="template",pod="a"} 100x120`, `hongyan_backlog_seconds{account="shop",kind="template",pod="a"} 60x120`,
					`hongyan_pace_per_second{account="shop",kind="template",pod="b"} 100x120`, `hongyan_backlog_seconds{account="shop",kind="template",pod="b"} 60x120`,
					`hongyan_pace_per_second{account="club",kind="custom",pod="a"} 50x120`, `hongyan_backlog_seconds{account="club",kind="custom",pod="a"} 60x120`,
				},
				150,
			},
		} {
			got := pastOf(t, tc.past...).ask(t, query)
			if len(got) != 1 || got[0].F != tc.want {
				t.Errorf("%s: %s: got %v, want %v", name, tc.about, got, tc.want)
			}
		}
	}
}

func TestChartRefusesBadValues(t *testing.T) {
	for values, want := range map[string]string{
		"worker: {replica: 3}":                                       "replica",
		"keda: {enabled: yes please}":                                "enabled",
		"config: {server: {listen: ':80'}}":                          "listen",
		"config: {accounts: []}":                                     "accounts",
		"config: {accounts: [{name: a, appid: wx1, type: service}]}": "appid",
		"config: {accounts: [{name: a, appid: wx0000000000000001, type: service, secret: s}]}": "accounts",
		"secrets: {stores: ''}":      "stores",
		"ingress: {paths: [wechat]}": "paths",
	} {
		if _, err := rendered(t, "hongyan", values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %s", values, err, want)
		}
	}
}

func TestExampleSecretsAreThoseThatAreNamed(t *testing.T) {
	secrets := map[string]map[string]string{}
	for _, s := range of[*corev1.Secret](decode(t, read(t, "../kubernetes/secrets.example.yaml"))) {
		secrets[s.Name] = s.StringData
	}
	for name, pod := range pods(kustomized(t)) {
		for _, e := range pod.Containers[0].Env {
			if from := e.ValueFrom; from != nil && secrets[from.SecretKeyRef.Name][from.SecretKeyRef.Key] == "" {
				t.Errorf("%s: %s comes from %s, key %s, which the example lacks", name, e.Name, from.SecretKeyRef.Name, from.SecretKeyRef.Key)
			}
		}
		for _, v := range pod.Volumes {
			if v.Secret != nil && len(secrets[v.Secret.SecretName]) == 0 {
				t.Errorf("%s: the example lacks %s", name, v.Secret.SecretName)
			}
		}
	}
}

// pods are the templates of deployments and jobs.
func pods(all objects) map[string]corev1.PodSpec {
	found := map[string]corev1.PodSpec{}
	for _, d := range of[*appsv1.Deployment](all) {
		found[d.Name] = d.Spec.Template.Spec
	}
	for _, j := range of[*batchv1.Job](all) {
		found[j.Name] = j.Spec.Template.Spec
	}
	return found
}

func contains(all, some map[string]string) bool {
	for key, value := range some {
		if all[key] != value {
			return false
		}
	}
	return len(some) > 0
}

func hasPort(c corev1.Container, name string) bool {
	return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
}
