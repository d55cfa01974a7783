// A controller as client-go has them, for as long as it is told to work. KUBECONFIG leads to the gateway, or past it;
// DIRECT_KUBECONFIG past it. Informers on both ways must see the same, and what workers count must all be there.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

const objects, workers = 10, 4

// What one informer has seen: every version of every object, and how often.
type witness struct {
	mutex  sync.Mutex
	events []string
	lister listers.ConfigMapLister
	synced func() bool
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func client(variable string) kubernetes.Interface {
	config := must(clientcmd.BuildConfigFromFlags("", os.Getenv(variable)))
	config.QPS, config.Burst = 200, 200
	return kubernetes.NewForConfigOrDie(config)
}

func (w *witness) saw(what string, object any) {
	if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	found := object.(*corev1.ConfigMap)
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s %s %s", what, found.Name, found.ResourceVersion))
}

func (w *witness) sorted() []string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return slices.Sorted(slices.Values(w.events))
}

func watching(ctx context.Context, api kubernetes.Interface, namespace string, changed func(string)) *witness {
	factory := informers.NewSharedInformerFactoryWithOptions(api, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = "counted" }))
	maps := factory.Core().V1().ConfigMaps()
	w := &witness{lister: maps.Lister(), synced: maps.Informer().HasSynced}
	must(maps.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { w.saw("added", object); changed(object.(*corev1.ConfigMap).Name) },
		UpdateFunc: func(_, object any) {
			w.saw("updated", object)
			changed(object.(*corev1.ConfigMap).Name)
		},
		DeleteFunc: func(object any) { w.saw("deleted", object) },
	}))
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), w.synced) {
		log.Fatal("the cache is not filled")
	}
	return w
}

func main() {
	seconds := must(strconv.ParseFloat(os.Getenv("SECONDS_TO_WORK"), 64))
	namespace := os.Getenv("NAMESPACE")
	api, ctx := client("KUBECONFIG"), context.Background()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	through := watching(ctx, api, namespace, func(name string) { queue.Add(name) })
	direct := watching(ctx, client("DIRECT_KUBECONFIG"), namespace, func(string) {})
	maps := api.CoreV1().ConfigMaps(namespace)
	for number := range objects {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("counter-%d", number), Labels: map[string]string{"counted": "yes"},
		}, Data: map[string]string{"count": "0"}}
		must(maps.Create(ctx, object, metav1.CreateOptions{}))
	}
	var counted, conflicts atomic.Int64
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for {
				name, over := queue.Get()
				if over {
					return
				}
				// From the cache, which may be old: the API server must say so.
				stored, err := through.lister.ConfigMaps(namespace).Get(name)
				if err == nil && stored.Labels["counted"] == "yes" && time.Now().Before(end) {
					object := stored.DeepCopy()
					object.Data["count"] = strconv.Itoa(must(strconv.Atoi(object.Data["count"])) + 1)
					_, err = maps.Update(ctx, object, metav1.UpdateOptions{FieldManager: "counter"})
					if err == nil {
						counted.Add(1)
					}
				}
				if apierrors.IsConflict(err) {
					conflicts.Add(1)
					queue.AddRateLimited(name)
				} else if err != nil && !apierrors.IsNotFound(err) {
					log.Fatal(err)
				} else {
					queue.Forget(name)
				}
				queue.Done(name)
			}
		})
	}
	// A second hand, so that there are conflicts; and something that comes and goes.
	for number := 0; time.Now().Before(end); number++ {
		name := fmt.Sprintf("counter-%d", number%objects)
		_, err := maps.Patch(ctx, name, "application/merge-patch+json",
			[]byte(fmt.Sprintf(`{"data": {"touched": "%d"}}`, number)), metav1.PatchOptions{})
		must(0, err)
		passing := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			GenerateName: "passing-", Labels: map[string]string{"counted": "no"},
		}, Data: map[string]string{"count": "0"}}
		made := must(maps.Create(ctx, passing, metav1.CreateOptions{}))
		must(0, maps.Delete(ctx, made.Name, metav1.DeleteOptions{}))
		time.Sleep(100 * time.Millisecond)
	}
	settle(through, direct)
	queue.ShutDown()
	group.Wait()
	settle(through, direct)
	report(ctx, client("DIRECT_KUBECONFIG"), namespace, through, direct, counted.Load(), conflicts.Load())
}

// Until both have seen the same, and nothing new for two seconds; or for a minute at most.
func settle(one, other *witness) {
	quiet, last := 0, -1
	for range 600 {
		time.Sleep(100 * time.Millisecond)
		first, second := one.sorted(), other.sorted()
		if slices.Equal(first, second) && len(first) == last {
			quiet++
		} else {
			quiet = 0
		}
		if last = len(first); quiet == 20 {
			return
		}
	}
}

func report(ctx context.Context, api kubernetes.Interface, namespace string, through, direct *witness, counted, conflicts int64) {
	stored := must(api.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{LabelSelector: "counted"}))
	sum, stale := 0, []string{}
	for _, each := range stored.Items {
		sum += must(strconv.Atoi(each.Data["count"]))
		known, err := through.lister.ConfigMaps(namespace).Get(each.Name)
		if err != nil || known.ResourceVersion != each.ResourceVersion {
			stale = append(stale, each.Name)
		}
	}
	known := must(through.lister.ConfigMaps(namespace).List(labels.Everything()))
	seen, wanted := through.sorted(), direct.sorted()
	missed := slices.DeleteFunc(slices.Clone(wanted), func(each string) bool {
		_, there := slices.BinarySearch(seen, each)
		return there
	})
	must(0, json.NewEncoder(os.Stdout).Encode(map[string]any{
		"counted": counted, "stored": sum, "conflicts": conflicts, "events": len(seen), "directEvents": len(wanted),
		"missed": missed, "stale": stale, "cached": len(known), "objects": len(stored.Items),
	}))
}
