package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The parts of Kubernetes' API (v1, apps/v1, batch/v1, policy/v1) that the manifests use, with the names of its
// reference: a field that is not here is misspelt, or has to be looked up and added.
type (
	kubeMeta struct {
		Name        string            `yaml:"name"`
		Labels      map[string]string `yaml:"labels"`
		Annotations map[string]string `yaml:"annotations"`
	}
	kubeHead struct {
		APIVersion string   `yaml:"apiVersion"`
		Kind       string   `yaml:"kind"`
		Metadata   kubeMeta `yaml:"metadata"`
	}
	kubeLabels struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	kubeRef struct {
		Name string `yaml:"name"`
	}
	kubeProbe struct {
		HTTPGet struct {
			Path string `yaml:"path"`
			Port string `yaml:"port"`
		} `yaml:"httpGet"`
		PeriodSeconds    int `yaml:"periodSeconds"`
		TimeoutSeconds   int `yaml:"timeoutSeconds"`
		FailureThreshold int `yaml:"failureThreshold"`
	}
	kubeMount struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	}
	kubeContainer struct {
		Name    string   `yaml:"name"`
		Image   string   `yaml:"image"`
		Args    []string `yaml:"args"`
		EnvFrom []struct {
			ConfigMapRef *kubeRef `yaml:"configMapRef"`
			SecretRef    *kubeRef `yaml:"secretRef"`
		} `yaml:"envFrom"`
		Ports []struct {
			Name          string `yaml:"name"`
			ContainerPort int    `yaml:"containerPort"`
		} `yaml:"ports"`
		StartupProbe   *kubeProbe `yaml:"startupProbe"`
		LivenessProbe  *kubeProbe `yaml:"livenessProbe"`
		ReadinessProbe *kubeProbe `yaml:"readinessProbe"`
		Resources      struct {
			Requests map[string]string `yaml:"requests"`
			Limits   map[string]string `yaml:"limits"`
		} `yaml:"resources"`
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct {
				Drop []string `yaml:"drop"`
			} `yaml:"capabilities"`
		} `yaml:"securityContext"`
		VolumeMounts []kubeMount `yaml:"volumeMounts"`
	}
	kubePod struct {
		Metadata kubeMeta `yaml:"metadata"`
		Spec     struct {
			EnableServiceLinks            *bool  `yaml:"enableServiceLinks"`
			AutomountServiceAccountToken  *bool  `yaml:"automountServiceAccountToken"`
			RestartPolicy                 string `yaml:"restartPolicy"`
			TerminationGracePeriodSeconds int    `yaml:"terminationGracePeriodSeconds"`
			SecurityContext               struct {
				RunAsNonRoot   bool `yaml:"runAsNonRoot"`
				RunAsUser      int  `yaml:"runAsUser"`
				FSGroup        int  `yaml:"fsGroup"`
				SeccompProfile struct {
					Type string `yaml:"type"`
				} `yaml:"seccompProfile"`
			} `yaml:"securityContext"`
			Containers []kubeContainer `yaml:"containers"`
			Volumes    []struct {
				Name   string `yaml:"name"`
				Secret *struct {
					SecretName  string `yaml:"secretName"`
					Optional    bool   `yaml:"optional"`
					DefaultMode int    `yaml:"defaultMode"`
				} `yaml:"secret"`
				EmptyDir *struct{} `yaml:"emptyDir"`
			} `yaml:"volumes"`
		} `yaml:"spec"`
	}
	kubeDeployment struct {
		kubeHead `yaml:",inline"`
		Spec     struct {
			Replicas int        `yaml:"replicas"`
			Selector kubeLabels `yaml:"selector"`
			Strategy struct {
				Type          string         `yaml:"type"`
				RollingUpdate map[string]int `yaml:"rollingUpdate"`
			} `yaml:"strategy"`
			Template kubePod `yaml:"template"`
		} `yaml:"spec"`
	}
	kubeJob struct {
		kubeHead `yaml:",inline"`
		Spec     struct {
			BackoffLimit int     `yaml:"backoffLimit"`
			Template     kubePod `yaml:"template"`
		} `yaml:"spec"`
	}
	kubeService struct {
		kubeHead `yaml:",inline"`
		Spec     struct {
			Selector map[string]string `yaml:"selector"`
			Ports    []struct {
				Name       string `yaml:"name"`
				Port       int    `yaml:"port"`
				TargetPort string `yaml:"targetPort"`
			} `yaml:"ports"`
		} `yaml:"spec"`
	}
	kubeBudget struct {
		kubeHead `yaml:",inline"`
		Spec     struct {
			MinAvailable int        `yaml:"minAvailable"`
			Selector     kubeLabels `yaml:"selector"`
		} `yaml:"spec"`
	}
	kubeData struct {
		kubeHead   `yaml:",inline"`
		Data       map[string]string `yaml:"data"`
		StringData map[string]string `yaml:"stringData"`
	}
)

// A manifest with a misspelt field is taken and the field forgotten; one whose roles, ports or settings are not the
// program's starts nothing.
func TestManifestsAreOfThisProgram(t *testing.T) {
	files, err := exported("k8s")
	if err != nil {
		t.Fatal(err)
	}
	var deployments []*kubeDeployment
	var services []*kubeService
	var data []*kubeData
	for name, text := range files {
		strict(t, name, text, func(kind string) any {
			switch kind {
			case "Deployment":
				deployments = append(deployments, &kubeDeployment{})
				return deployments[len(deployments)-1]
			case "Service":
				services = append(services, &kubeService{})
				return services[len(services)-1]
			case "ConfigMap", "Secret":
				if kind == "Secret" && !strings.Contains(name, ".example.") {
					t.Errorf("%s is applied again for each version, and would put its Secret over the real one", name)
				}
				data = append(data, &kubeData{})
				return data[len(data)-1]
			case "Job":
				return &kubeJob{}
			case "PodDisruptionBudget":
				return &kubeBudget{}
			}
			return nil
		})
	}
	var roles []string
	for _, d := range deployments {
		mounted := func(at string) bool {
			return slices.ContainsFunc(d.Spec.Template.Spec.Containers[0].VolumeMounts, func(m kubeMount) bool {
				return m.MountPath == at && !m.ReadOnly
			})
		}
		if !mounted("/tmp") || !mounted("/data") {
			t.Errorf("%s: nothing can be written beside a root that is read-only", d.Metadata.Name)
		}
		pod := d.Spec.Template.Spec
		c := pod.Containers[0]
		roles = append(roles, c.Args[len(c.Args)-1])
		if d.Spec.Selector.MatchLabels["role"] != d.Spec.Template.Metadata.Labels["role"] ||
			pod.EnableServiceLinks == nil || *pod.EnableServiceLinks || pod.TerminationGracePeriodSeconds < 30 ||
			c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/healthz" ||
			!c.SecurityContext.ReadOnlyRootFilesystem || !pod.SecurityContext.RunAsNonRoot {
			t.Errorf("%+v", d)
		}
	}
	slices.Sort(roles)
	if want := slices.Sorted(slices.Values(allRoles)); !slices.Equal(roles, want) {
		t.Errorf("roles %v, want %v", roles, want)
	}
	if len(services) != 2 || len(data) != 2 {
		t.Errorf("%d services, %d of settings", len(services), len(data))
	}
	for _, d := range data {
		areSettings(t, d.Metadata.Name, d.Data)
		areSettings(t, d.Metadata.Name, d.StringData)
	}
}

// areSettings wants names of settings.
func areSettings(t *testing.T, where string, values map[string]string) {
	t.Helper()
	var s settings
	for name := range values {
		if !slices.ContainsFunc(s.fields(), func(f field) bool { return f.env == name || f.env+"_FILE" == name }) {
			t.Errorf("%s: %s is no setting", where, name)
		}
	}
}

// composeFile is what of the Compose Specification the file uses.
type composeFile struct {
	Name     string                    `yaml:"name"`
	Orderd   composeService            `yaml:"x-orderd"`
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]struct{}       `yaml:"volumes"`
}

type composeService struct {
	Build           string                       `yaml:"build"`
	Image           string                       `yaml:"image"`
	Command         []string                     `yaml:"command"`
	ReadOnly        bool                         `yaml:"read_only"`
	Tmpfs           []string                     `yaml:"tmpfs"`
	CapDrop         []string                     `yaml:"cap_drop"`
	SecurityOpt     []string                     `yaml:"security_opt"`
	Environment     map[string]string            `yaml:"environment"`
	Volumes         []string                     `yaml:"volumes"`
	DependsOn       map[string]map[string]string `yaml:"depends_on"`
	Ports           []string                     `yaml:"ports"`
	StopGracePeriod string                       `yaml:"stop_grace_period"`
	Restart         string                       `yaml:"restart"`
	Healthcheck     struct {
		Test     []string `yaml:"test"`
		Interval string   `yaml:"interval"`
		Timeout  string   `yaml:"timeout"`
		Retries  int      `yaml:"retries"`
	} `yaml:"healthcheck"`
}

// The file of compose names services, settings and volumes of its own; Docker's word is asked where it is there.
func TestComposeIsOfThisProgram(t *testing.T) {
	files, err := exported("compose")
	if err != nil {
		t.Fatal(err)
	}
	var c composeFile
	strict(t, "compose.yaml", files["compose.yaml"], func(string) any { return &c })
	areSettings(t, "compose.yaml", c.Orderd.Environment)
	for name, s := range c.Services {
		for on := range s.DependsOn {
			if _, there := c.Services[on]; !there {
				t.Errorf("%s waits for %s, which is not there", name, on)
			}
		}
		for _, v := range append(s.Volumes, c.Orderd.Volumes...) {
			volume, _, _ := strings.Cut(v, ":")
			if _, there := c.Volumes[volume]; !there {
				t.Errorf("%s: no volume %s", name, volume)
			}
		}
	}
	if !slices.Contains(c.Orderd.Tmpfs, "/tmp") { // what is spilt has no other place beside a root that is read-only
		t.Error("nothing can be spilt")
	}
	if c.Services["orderd"].Restart == "" || c.Services["db"].Image == "" || !c.Services["orderd"].ReadOnly {
		t.Errorf("%+v", c)
	}
	if err := exec.CommandContext(t.Context(), "docker", "compose", "version").Run(); err != nil {
		t.Logf("docker compose is not asked: %v", err)
		return
	}
	dir := t.TempDir()
	if code, _, errs := words(t, "export", "compose", dir); code != exitOK {
		t.Fatal(errs)
	}
	for _, name := range []string{"DB_PASSWORD", "JWT_SECRET", "ADMIN_TOKEN"} {
		t.Setenv(name, strings.Repeat("x", 64))
	}
	tool(t, dir, "docker", "compose", "config", "--quiet")
}

// Whoever forgets to put a value of their own in would run on a secret that everybody can read in the example.
func TestPlaceholdersAreRefused(t *testing.T) {
	for name, value := range map[string]string{"ORDERD_CUSTOMER_JWT_SECRET": "CHANGE-ME-openssl-rand-hex-32-00",
		"ORDERD_BOOTSTRAP_ADMIN_TOKEN": "CHANGE-ME-openssl-rand-hex-32-00",
		"ORDERD_DSN":                   "mysql:orderd:CHANGE-ME@tcp(mysql:3306)/orderd"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			if code, _, errs := words(t, "config", "check"); code != exitUsage || !strings.Contains(errs, name) ||
				!strings.Contains(errs, "everybody knows it") {
				t.Errorf("%d: %s", code, errs)
			}
		})
	}
}
