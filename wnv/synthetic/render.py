"""Ray casting of the synthetic world: exact images, depth, object ids and points, on any device.

Camera rays have z = 1, so the ray parameter is the depth along the optical axis, and every linear function of a ray is
a function of the pixel's column plus one of its row: intersections work on such outer sums and on nothing larger.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wnv.geometry.cameras import scale_K
from wnv.geometry.products import matmul, transform
from wnv.synthetic.world import (
    BOX_SURFACES,
    BOXES,
    CYLINDER_SURFACES,
    CYLINDERS,
    NUM_BOXES,
    NUM_CYLINDERS,
    NUM_PANELS,
    NUM_SURFACES,
    OBJECTS,
    PANEL_SURFACES,
    PANELS,
    ROOM,
    SPHERE_SURFACES,
    SPHERES,
    SURFACE_BODY,
    World,
    body_poses,
)
from wnv.types import Cameras

# Larger than any depth: scales how far a ray misses.
_FAR = 1e30
# Added to direction components before inversion: too small to move a ray, but avoids NaN at an exact 0.
_TINY = 1e-12
_NEAR = 1e-3
# Rays per chunk: on a CPU one tensor stays in the cache; accelerators take more.
_RAYS_PER_CHUNK_CPU = 1 << 15
_RAYS_PER_CHUNK = 1 << 21


def render_geometry(
    world: World, cameras: Cameras, times: Float[Tensor, "scene view"]
) -> tuple[
    Float[Tensor, "scene view height width"],
    Int[Tensor, "scene view height width"],
    Float[Tensor, "scene view height width 3"],
]:
    """Trace the ray through each pixel's center; arguments as in `render_images`.

    Returns:
        Depth along the optical axis, index of the body (0 is the room), and surface point in world coordinates.
    """
    depth, surfaces, points = [], [], []
    for rays in _cast(world, cameras, times):
        t, surface = rays.trace()
        depth.append(t)
        surfaces.append(surface)
        points.append(torch.stack(rays.points(t), dim=-1))
    return (
        torch.cat(depth).unflatten(0, times.shape),
        SURFACE_BODY.to(times.device)[torch.cat(surfaces)].unflatten(0, times.shape),
        torch.cat(points).unflatten(0, times.shape),
    )


def render_images(
    world: World, cameras: Cameras, times: Float[Tensor, "scene view"], *, supersample: int = 1
) -> Float[Tensor, "scene view 3 height width"]:
    """Render the scenes, RGB in 0..1.

    Args:
        world: The scenes.
        cameras: Cameras of each scene, in the world's own frame, without skew; on the world's device.
        times: Time of each view; scenes are made for 0..1.
        supersample: Rays per pixel along each image axis, averaged.

    Raises:
        ValueError: If `supersample` is below 1, a K has skew, or the batch axes do not fit.
    """
    if supersample < 1:
        raise ValueError(f"supersample must be at least 1 ray per pixel and axis, got {supersample}")
    if cameras.batch_shape != times.shape or times.shape[0] != world.num_scenes:
        raise ValueError(
            f"worlds, cameras and times must share their scenes and views, got {world.num_scenes} worlds, cameras "
            f"{tuple(cameras.batch_shape)} and times {tuple(times.shape)}"
        )
    if bool((cameras.K[..., 0, 1] != 0).any()):
        raise ValueError("K of a synthetic camera must have no skew, got K[0, 1] != 0")
    fine = Cameras(
        K=scale_K(cameras.K, scale_x=supersample, scale_y=supersample),
        camtoworld=cameras.camtoworld,
        width=cameras.width * supersample,
        height=cameras.height * supersample,
    )
    images = (rays.shade(*rays.trace()) for rays in _cast(world, fine, times))
    if supersample > 1:
        images = (avg_pool2d(image, supersample) for image in images)
    return torch.cat(list(images)).unflatten(0, times.shape)


def _cast(world: World, cameras: Cameras, times: Float[Tensor, "scene view"]) -> Iterator["_Rays"]:
    """The rays of all views, in chunks of views."""
    scenes = torch.arange(world.num_scenes, device=times.device).repeat_interleave(times.shape[1])
    cameras = Cameras(cameras.K.flatten(0, 1), cameras.camtoworld.flatten(0, 1), cameras.width, cameras.height)
    limit = _RAYS_PER_CHUNK_CPU if times.device.type == "cpu" else _RAYS_PER_CHUNK
    step = max(1, limit // (cameras.width * cameras.height))
    for start in range(0, len(scenes), step):
        part = slice(start, start + step)
        yield _Rays(world[scenes[part]], cameras[part], times.flatten()[part])


class _Rays:
    """The rays of some views, one through each pixel's centre; `world` has one entry per view."""

    def __init__(self, world: World, cameras: Cameras, times: Float[Tensor, " n"]) -> None:
        self.world = world
        rotation, centre = body_poses(world, times[:, None])
        self.body_rotation, self.body_centre = rotation[:, 0], centre[:, 0]
        K, camtoworld = cameras.K, cameras.camtoworld
        columns = torch.arange(cameras.width, device=K.device) + 0.5
        rows = torch.arange(cameras.height, device=K.device) + 0.5
        self.x = ((columns - K[:, 0, 2:]) / K[:, 0, :1])[:, None, None, :]
        self.y = ((rows - K[:, 1, 2:]) / K[:, 1, 1:2])[:, None, :, None]
        self.pixel_angle = 1 / K[:, 0, 0, None, None]
        self.camera_rotation, self.eye = camtoworld[:, :3, :3], camtoworld[:, :3, 3]
        # Body<-world rotations, the eye and the rays in each body's frame.
        self.to_body = self.body_rotation.transpose(-1, -2)
        self.eye_local = transform(self.to_body, (self.eye[:, None] - self.body_centre)[:, :, None])[:, :, 0]
        self.ray_local = matmul(self.to_body, self.camera_rotation[:, None])

    def linear(self, rows: Float[Tensor, "n k 3"]) -> Float[Tensor, "n k height width"]:
        """Linear functions of the camera rays (x, y, 1)."""
        rows = rows[..., None, None]
        return (rows[:, :, 0] * self.x + rows[:, :, 2]) + rows[:, :, 1] * self.y

    def points(self, t: Float[Tensor, "n height width"]) -> list[Float[Tensor, "n height width"]]:
        """World x, y and z of the points at depth `t`."""
        directions = self.linear(self.camera_rotation)
        return [(directions[:, i] * t).add_(self.eye[:, i, None, None]) for i in range(3)]

    def trace(self) -> tuple[Float[Tensor, "n height width"], Int[Tensor, "n height width"]]:
        """Depth and surface of the first hit of each ray; the room is always hit."""
        depth, surface = self._room()
        for group, first in (
            (self._panels, PANEL_SURFACES.start),
            (self._boxes, BOX_SURFACES.start),
            (self._spheres, SPHERE_SURFACES.start),
            (self._cylinders, CYLINDER_SURFACES.start),
        ):
            t, part = group()
            for k in range(t.shape[1]):
                nearer = t[:, k] < depth
                torch.minimum(depth, t[:, k], out=depth)
                surface = torch.where(nearer, part[:, k] + first if part is not None else float(first + k), surface)
        return depth, surface.long()

    def _slabs(
        self, bodies: slice, axis: int
    ) -> tuple[Float[Tensor, "n k height width"], Float[Tensor, "n k height width"]]:
        """Depths at which rays enter and leave the slab between two faces of each body."""
        half = self.world.half[:, bodies, axis]
        d = self.linear(self.ray_local[:, bodies, axis] / half[..., None]).add_(_TINY).reciprocal_()
        middle = d * (-self.eye_local[:, bodies, axis] / half)[..., None, None]
        d = d.abs_()
        return middle - d, middle.add_(d)

    def _room(self) -> tuple[Float[Tensor, "n height width"], Float[Tensor, "n height width"]]:
        room = slice(ROOM, ROOM + 1)

        def leave(axis: int) -> tuple[Tensor, Tensor]:
            """Depth at which the rays leave the room across an axis, and through which wall."""
            t = self._slabs(room, axis)[1][:, 0]
            return t, (self.linear(self.ray_local[:, room, axis])[:, 0] > 0).float() + 2 * axis

        depth, surface = leave(0)
        for axis in (1, 2):
            t, wall = leave(axis)
            surface = torch.where(t < depth, wall, surface)
            depth = torch.minimum(depth, t)
        return depth, surface

    def _panels(self) -> tuple[Float[Tensor, "n k height width"], None]:
        half, eye, ray = self.world.half[:, PANELS], self.eye_local[:, PANELS], self.ray_local[:, PANELS]
        t = self.linear(ray[:, :, 2]).add_(_TINY).reciprocal_().mul_(-eye[:, :, 2, None, None])
        across, along = (
            torch.addcmul(eye[:, :, i, None, None], self.linear(ray[:, :, i]), t).abs_().sub_(half[:, :, i, None, None])
            for i in range(2)
        )
        outside = torch.maximum(across, along)
        return _miss(_miss(t, outside), _NEAR - t), None

    def _boxes(self) -> tuple[Float[Tensor, "n k height width"], Float[Tensor, "n k height width"]]:
        enter, leave = self._slabs(BOXES, 0)
        first_face = 3.0 * torch.arange(NUM_BOXES, device=enter.device)[:, None, None]
        face = first_face.expand_as(enter)
        for axis in (1, 2):
            enter_axis, leave_axis = self._slabs(BOXES, axis)
            face = torch.where(enter_axis > enter, first_face + axis, face)
            torch.maximum(enter, enter_axis, out=enter)
            torch.minimum(leave, leave_axis, out=leave)
        return _miss(_miss(enter, enter - leave), _NEAR - enter), face

    def _spheres(self) -> tuple[Float[Tensor, "n k height width"], None]:
        # |eye + t ray - centre| = r, with ray = (x, y, 1) in camera axes: a t^2 + 2 b t + c = 0.
        a = (self.x**2 + 1) + self.y**2
        arm = self.eye_local[:, SPHERES]
        b = self.linear(transform(self.ray_local[:, SPHERES].transpose(-1, -2), arm[:, :, None])[:, :, 0])
        c = (arm**2).sum(-1) - self.world.half[:, SPHERES, 0] ** 2
        excess = (a * c[..., None, None]).sub_(b * b)
        root = excess.neg().clamp_min_(0).sqrt_()
        t = root.add_(b).neg_().div_(a)
        return _miss(_miss(t, excess), _NEAR - t), None

    def _cylinders(self) -> tuple[Float[Tensor, "n k height width"], Float[Tensor, "n k height width"]]:
        arm, ray = self.eye_local[:, CYLINDERS, :2], self.ray_local[:, CYLINDERS, :2]
        dx, dy = self.linear(ray[:, :, 0]), self.linear(ray[:, :, 1])
        a = torch.addcmul(dx * dx, dy, dy).add_(_TINY)
        b = self.linear((ray * arm[..., None]).sum(-2))
        c = (arm**2).sum(-1) - self.world.half[:, CYLINDERS, 0] ** 2
        excess = (a * c[..., None, None]).sub_(b * b)
        root = excess.neg().clamp_min_(0).sqrt_()
        b = b.neg_()
        a = a.reciprocal_()
        enter, leave = (b - root).mul_(a), (b + root).mul_(a)
        enter_cap, leave_cap = self._slabs(CYLINDERS, 2)
        side = 2.0 * torch.arange(NUM_CYLINDERS, device=a.device)[:, None, None]
        part = torch.where(enter_cap > enter, side + 1, side)
        enter, leave = torch.maximum(enter, enter_cap), torch.minimum(leave, leave_cap)
        return _miss(_miss(_miss(enter, enter - leave), excess), _NEAR - enter), part

    def shade(
        self, t: Float[Tensor, "n height width"], surface: Int[Tensor, "n height width"]
    ) -> Float[Tensor, "n 3 height width"]:
        """Colours of the points at depth `t` on the given surfaces."""
        table = self._surface_table()
        index = surface.flatten(1)[:, None].expand(-1, table.shape[1], -1)
        values = table.gather(2, index).unflatten(2, t.shape[1:]).unbind(1)
        affine, rest = values[: 4 * 5], values[4 * 5 :]
        product, weight0, weight1, weight2, bias, softness, frequency, warp = rest[:8]
        first, step, specular, glow = rest[8:11], rest[11:14], rest[14], rest[15]

        px, py, pz = self.points(t)
        q0, q1, q2, towards_light, towards_gloss = (
            torch.addcmul(affine[4 * r + 3], affine[4 * r], px)
            .addcmul_(affine[4 * r + 1], py)
            .addcmul_(affine[4 * r + 2], pz)
            for r in range(5)
        )
        c0, c1, c2 = (torch.addcmul(q, warp, torch.sin(other)).cos_() for q, other in ((q0, q1), (q1, q2), (q2, q0)))
        pattern = (c0 * c1).mul_(c2).mul_(product).add_(bias)
        pattern.addcmul_(weight0, c0).addcmul_(weight1, c1).addcmul_(weight2, c2)
        # Patterns finer than a pixel fade instead of aliasing.
        softness = torch.addcmul(softness, frequency, t * self.pixel_angle, value=0.6)
        mix = (pattern / softness).mul_(0.5).add_(0.5).clamp_(0, 1)

        world = self.world
        lamp = world.lamp[:, :, None, None]
        distance = (px - lamp[:, 0]).square_() + (py - lamp[:, 1]).square_() + (pz - lamp[:, 2]).square_()
        reach = 2.6 * (world.half[:, ROOM] ** 2).sum(-1)[:, None, None]
        falloff = 1.12 / (1 + distance / reach)
        lit = (towards_light * 0.25 + 1) * world.ambient[:, None, None]
        direct = towards_light.clamp_min(0) * self._unshadowed(t) * world.key[:, None, None]
        lit = (lit + direct) * falloff * (1 - glow) + glow
        highlight = towards_gloss.clamp_(0, 1).square_().square_().square_().square_() * specular
        colour = [torch.addcmul(f, s, mix).mul_(lit).add_(highlight) for f, s in zip(first, step, strict=True)]
        return torch.stack(colour, dim=1).clamp_(0, 1)

    def _surface_table(self) -> Float[Tensor, "n column surface"]:
        """Shading parameters of each surface: five affine functions of the world point, then constants.

        The affine functions are the three texture phases and the normal's components along the light and along the
        half vector of the highlight. (Normals of flats, spheres and cylinders are affine in the point.)
        """
        world, body = self.world, SURFACE_BODY.to(self.eye.device)
        textures = world.textures
        to_local = self.to_body[:, body]
        slope, constant = _normal_maps(world.half)
        view = self.eye[:, None] - self.body_centre
        view = view / torch.linalg.vector_norm(view, dim=-1, keepdim=True)
        gloss = view + world.light[:, None]
        gloss = gloss / torch.linalg.vector_norm(gloss, dim=-1, keepdim=True).clamp_min(1e-3)
        light = world.light[:, None].expand_as(gloss)
        towards = torch.stack([light, gloss], dim=2)  # n body 2 3, world
        towards = transform(self.to_body, towards)[:, body]
        rows = torch.cat([textures.phase_map, towards * slope[:, :, None]], dim=2)
        offsets = torch.cat([textures.phase, (towards * constant[:, :, None]).sum(-1)], dim=2)
        rows = matmul(rows, to_local)
        offsets = offsets - (rows * self.body_centre[:, body, None]).sum(-1)
        affine = torch.cat([rows, offsets[..., None]], dim=-1).flatten(2)
        first, second = textures.colours.unbind(2)
        constants = [textures.product[..., None], textures.weights, textures.bias[..., None]]
        constants += [v[..., None] for v in (textures.softness, textures.frequency, textures.warp)]
        constants += [first, second - first, textures.specular[..., None], textures.glow[..., None]]
        return torch.cat([affine, *constants], dim=-1).transpose(1, 2).contiguous()

    def _unshadowed(self, t: Float[Tensor, "n height width"]) -> Float[Tensor, "n height width"]:
        """Fraction of the key light that reaches each point. Every object casts the soft shadow of an ellipsoid."""
        half = self.world.half[:, OBJECTS] * _SHADOW_SIZE
        to_unit = self.to_body[:, OBJECTS] / half[..., None]
        light = transform(to_unit, self.world.light[:, None, None])[:, :, 0]
        light = light / torch.linalg.vector_norm(light, dim=-1, keepdim=True)
        # Two axes perpendicular to the light, in the frame where the ellipsoid is a unit sphere.
        aside = torch.where(light[..., :1].abs() < 0.7, light.new_tensor([1.0, 0, 0]), light.new_tensor([0, 1.0, 0]))
        across = torch.linalg.cross(light, aside)
        across = across / torch.linalg.vector_norm(across, dim=-1, keepdim=True)
        axes = torch.stack([across, torch.linalg.cross(light, across), light], dim=2)
        rows = matmul(axes, to_unit)
        offsets = (rows * (self.eye[:, None] - self.body_centre[:, OBJECTS])[:, :, None]).sum(-1)[..., None, None]
        rows = matmul(rows, self.camera_rotation[:, None])
        t = t[:, None]
        u, v, ahead = (self.linear(rows[:, :, i]).mul_(t).add_(offsets[:, :, i]) for i in range(3))
        shade = u.square_().addcmul_(v, v).sub_(1.2).mul_(-2).clamp_(0, 1)
        shade.mul_(ahead.mul_(-3).clamp_(0, 1))
        return shade.sum(1).clamp_(0, 1).mul_(-_SHADOW_DEPTH).add_(1)


_SHADOW_SIZE = 1.1
_SHADOW_DEPTH = 0.75


def _miss(t: Tensor, excess: Tensor) -> Tensor:
    """Move depths out of sight where `excess` is positive."""
    return torch.add(t, excess.clamp_min(0), alpha=_FAR)


def _normal_maps(
    half: Float[Tensor, "n body 3"],
) -> tuple[Float[Tensor, "n surface 3"], Float[Tensor, "n surface 3"]]:
    """Normals of the surfaces in their body's frame: slope * point + constant, component by component."""
    n = half.shape[0]
    axes = torch.eye(3, device=half.device)
    room_constant = torch.stack([axes, -axes], dim=1).reshape(6, 3)  # at -x the normal points to +x
    slope = [torch.zeros(n, 6 + NUM_PANELS, 3, device=half.device)]
    slope.append((axes / half[:, BOXES, None]).flatten(1, 2))
    slope.append(1 / half[:, SPHERES])
    side, cap = axes[0] + axes[1], axes[2]
    slope.append((torch.stack([side, cap]) / half[:, CYLINDERS, None]).flatten(1, 2))
    constant = torch.zeros(NUM_SURFACES, 3, device=half.device)
    constant[:6] = room_constant
    constant[PANEL_SURFACES, 2] = 1
    return torch.cat(slope, dim=1), constant.expand(n, -1, -1)
